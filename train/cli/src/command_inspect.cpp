// brim inspect: what brim sees in a file, a model, a data set, or the machine.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "account.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/byte_source.h"
#include "brim/dataloader/decode.h"
#include "brim/train/network.h"
#include "config_options.h"
#include "experiment.h"
#include "program.h"
#include "tuning.h"

namespace brim::cli {
namespace {

using nlohmann::json;

double mean_of(const Image& image) {
  double sum = 0;
  for (const std::byte value : image.bytes()) sum += static_cast<double>(value);
  return image.empty() ? 0 : sum / static_cast<double>(image.bytes().size());
}

void inspect_images(Program& program, const std::vector<std::string>& files, int size,
                    bool as_json) {
  Decoder decoder;
  Image image;
  std::vector<std::byte> buffer;
  json rows = json::array();
  const DecodeRequest request =
      size > 0 ? DecodeRequest{DecodeRequest::Fit::LongestSide, size} : DecodeRequest{};
  for (const std::string& file : files) {
    try {
      const std::span<const std::byte> bytes = read_bytes({}, file, buffer);
      const ImageInfo info = decoder.inspect(bytes, request);
      decoder.decode(bytes, request, std::nullopt, image);
      const double mean = mean_of(image);
      program.console.print(fmt::format("{}: {}x{}x3 mean {:.2f} {} orientation {} plan {}", file,
                                        image.height(), image.width(), mean, info.format,
                                        info.orientation, info.plan));
      rows.push_back({{"file", file},
                      {"height", image.height()},
                      {"width", image.width()},
                      {"mean", mean},
                      {"format", info.format},
                      {"orientation", info.orientation},
                      {"plan", info.plan}});
    } catch (const Error& error) {
      program.exit_code = 2;
      program.console.print(fmt::format("{}: error: {}", file, error.message()));
      rows.push_back({{"file", file}, {"error", error.message()}});
    }
  }
  if (as_json) program.console.json(rows.dump(2));
}

void inspect_memory(Program& program, bool as_json) {
  const MemoryLimits limits = read_memory_limits();
  const auto budget = MemoryBudget::make();
  std::vector<std::vector<std::string>> rows{{"source", "this process may hold"}};
  json all = json::array();
  for (const MemoryLimit& limit : limits.all) {
    rows.push_back({limit.source, format_bytes(limit.limit)});
    all.push_back({{"source", limit.source},
                   {"limit_bytes", limit.limit},
                   {"used_by_others_bytes", limit.used_by_others}});
  }
  program.console.print(format_table(rows));
  program.console.print(
      fmt::format("decided by {}: {}; brim plans with {}; resident now {}; CPUs {}",
                  limits.decided_by, format_bytes(limits.effective), format_bytes(budget->limit()),
                  format_bytes(limits.own_resident), available_cpus()));
  if (as_json) {
    program.console.json(json({{"limits", all},
                               {"decided_by", limits.decided_by},
                               {"effective_bytes", limits.effective},
                               {"budget_bytes", budget->limit()},
                               {"resident_bytes", limits.own_resident},
                               {"cpus", available_cpus()}})
                             .dump(2));
  }
}

void inspect_model(Program& program, const Config& config, int classes, std::int64_t boxes,
                   bool layers, bool as_json) {
  const auto network = make_network({.model = config.model.name, .classes = classes});
  std::int64_t parameters = 0;
  std::vector<std::vector<std::string>> rows{{"parameter", "shape", "numbers"}};
  for (const auto& entry : network->named_parameters()) {
    parameters += entry.value().numel();
    std::string shape;
    for (const std::int64_t side : entry.value().sizes()) {
      shape += (shape.empty() ? "" : "x") + std::to_string(side);
    }
    rows.push_back({entry.key(), shape, std::to_string(entry.value().numel())});
  }
  if (layers) program.console.print(format_table(rows));
  program.console.print(fmt::format(
      "{}: {} parameters ({}), {} classes, input sides multiples of {}", network->name(),
      parameters, format_bytes(4 * parameters), network->classes(), network->max_stride()));
  const std::int64_t batch = std::max<std::int64_t>(1, plain_batch(config));
  const autotune::MemoryAccount account = account_of(config, classes, boxes, batch);
  constexpr std::size_t kListed = 8;
  program.console.print(fmt::format("memory of a training step, {} images of {}x{} in {}:", batch,
                                    config.train.img, config.train.img, config.train.precision));
  program.console.print(account_table(account, layers ? account.layers.size() : kListed));
  if (as_json) {
    program.console.json(json({{"model", network->name()},
                               {"parameters", parameters},
                               {"classes", network->classes()},
                               {"max_stride", network->max_stride()},
                               {"memory", json::parse(account_json(account))}})
                             .dump(2));
  }
}

void inspect_data(Program& program, const Config& config, Split split, bool as_json) {
  const auto data = open_data(config, split);
  const auto& names = data->class_names();
  std::vector<std::int64_t> images(names.size()), labels(names.size());
  std::map<std::string, std::int64_t> sizes;
  std::int64_t background = 0, total = 0;
  RecordScratch scratch;
  for (std::int64_t i = 0; i < data->size(); ++i) {
    const Record record = data->record(i, scratch);
    std::vector<bool> seen(names.size());
    const auto count = [&](std::int32_t id) {
      ++labels[static_cast<std::size_t>(id)];
      ++total;
      seen[static_cast<std::size_t>(id)] = true;
    };
    for (const Box& box : record.boxes) count(box.class_id);
    if (record.class_id >= 0) count(record.class_id);
    for (std::size_t id = 0; id < seen.size(); ++id) images[id] += seen[id] ? 1 : 0;
    if (record.boxes.empty() && record.class_id < 0) ++background;
    ++sizes[fmt::format("{}x{}", record.width, record.height)];
  }
  std::vector<std::vector<std::string>> rows{{"class", "images", "labels"}};
  json classes = json::array();
  for (std::size_t id = 0; id < names.size(); ++id) {
    rows.push_back({names[id], std::to_string(images[id]), std::to_string(labels[id])});
    classes.push_back({{"name", names[id]}, {"images", images[id]}, {"labels", labels[id]}});
  }
  program.console.print(format_table(rows));
  for (const DatasetWarning& warning : data->warnings()) {
    program.console.warn(
        Error(warning.reason, {.file = warning.file, .line = warning.line}).what());
  }
  program.console.print(fmt::format(
      "{} split: {} images ({} without labels), {} labels, {} image sizes, {} warnings",
      split_name(split), data->size(), background, total, sizes.size(), data->warnings().size()));
  if (as_json) {
    program.console.json(json({{"split", split_name(split)},
                               {"images", data->size()},
                               {"background", background},
                               {"labels", total},
                               {"sizes", sizes.size()},
                               {"warnings", data->warnings().size()},
                               {"classes", classes}})
                             .dump(2));
  }
}

}  // namespace

void add_inspect_command(CLI::App& app, Program& program) {
  CLI::App* inspect = app.add_subcommand(
      "inspect", "Shows what brim sees in images, data, models and the machine's memory");
  inspect->require_subcommand(1);
  inspect->footer("Example: brim inspect image photos/*.jpg --img 640");

  struct State {
    std::vector<std::string> files;
    int size = 0, classes = 80;
    bool json = false, layers = false;
    Config model_config;
    std::int64_t boxes = 32;
    std::string name, split = "train";
    std::unique_ptr<ConfigOptions> data_options;
  };
  auto state = std::make_shared<State>();
  const auto run = [&program, state](auto&& action) {
    return [&program, state, action] {
      program.console.set_quiet(state->json);
      action(*state);
    };
  };

  CLI::App* image =
      inspect->add_subcommand("image", "One line a file: shape, mean, format, plan or error");
  image->footer("Example: brim inspect image photos/*.jpg --img 640");
  image->add_option("files", state->files, "image files")->required();
  image->add_option("--img", state->size, "bring the longer side down to this, as training would");
  image->add_flag("--json", state->json, "print JSON");
  image->callback(run([&program](State& s) { inspect_images(program, s.files, s.size, s.json); }));

  CLI::App* memory =
      inspect->add_subcommand("memory", "Every limit on this process's memory and who set it");
  memory->footer("Example: brim inspect memory --json");
  memory->add_flag("--json", state->json, "print JSON");
  memory->callback(run([&program](State& s) { inspect_memory(program, s.json); }));

  CLI::App* model = inspect->add_subcommand(
      "model", "Parameters of a model, and where the memory of its training goes");
  model->footer("Example: brim inspect model yolov5s --img 640 --batch 16");
  model->add_option("model", state->name, "name or YAML of a model")->required();
  model->add_option("--img", state->model_config.train.img, "side of the training images");
  model->add_option("--batch", state->model_config.train.batch, "images per step");
  model->add_option("--precision", state->model_config.train.precision, "fp32, bf16, fp16");
  model->add_option("--optimizer", state->model_config.train.optimizer, "sgd, adam, adamw");
  model->add_option("--boxes", state->boxes, "labels per image");
  model->add_option("--activation-checkpointing",
                    state->model_config.train.activation_checkpointing, "auto, on, off");
  model->add_option("--classes", state->classes, "number of classes");
  model->add_flag("--layers", state->layers, "list every parameter and layer");
  model->add_flag("--json", state->json, "print JSON");
  model->callback(run([&program](State& s) {
    s.model_config.model.name = s.name;
    inspect_model(program, s.model_config, s.classes, s.boxes, s.layers, s.json);
  }));

  CLI::App* data = inspect->add_subcommand("data", "Classes, labels and faults of a data set");
  state->data_options = std::make_unique<ConfigOptions>(*data);
  data->footer("Example: brim inspect data --data data.yaml --split val");
  data->add_option("--split", state->split, "train, val or test");
  data->add_flag("--json", state->json, "print JSON");
  data->callback(run([&program](State& s) {
    inspect_data(program, s.data_options->resolve(), parse_split(s.split), s.json);
  }));

  CLI::App* keys =
      inspect->add_subcommand("keys", "Every key of an experiment (configs/README.md)");
  keys->footer("Example: brim inspect keys");
  keys->callback([&program] { program.console.print(key_table()); });
}

}  // namespace brim::cli
