// brim val: measures a trained network on labelled data.
#include <fmt/format.h>

#include <algorithm>

#include "brim/cache/memory_monitor.h"
#include "brim/train/checkpoint.h"
#include "config_options.h"
#include "evaluation.h"
#include "experiment.h"
#include "loaded_model.h"
#include "program.h"
#include "run_folder.h"
#include "training.h"

namespace brim::cli {
namespace {

void val(Program& program, Config config, bool as_json) {
  const auto data = open_data(config, parse_split(config.val.split));
  show_warnings(*data, program.console);
  warn_of_no_labels(*data, program.console);
  require_unused(config.output);
  RunFolder run_folder(config.output, "runs/val/exp");
  const std::string& folder = run_folder.path();
  const auto budget = make_budget(config);
  const MemoryMonitor monitor(budget);
  prepare_compute(config, budget);
  prepare_device(config);
  const LoadedModel model = load_model(config, data->class_names(), program.console);
  if (model.network->task() != data->task() ||
      model.class_names.size() != data->class_names().size()) {
    throw Error(
        fmt::format("{} with {} classes does not fit this data, which has {} classes{}",
                    model.network->name(), model.class_names.size(), data->class_names().size(),
                    data->task() == Task::Detect ? " and boxes" : " and no boxes"),
        {.file = config.model.weights});
  }
  const std::string difference = class_difference(model.class_names, config.model.weights,
                                                  data->class_names(), config.data.path);
  if (!difference.empty()) {
    if (std::is_permutation(model.class_names.begin(), model.class_names.end(),
                            data->class_names().begin()))
      throw Error(difference, {.file = config.data.path},
                  "list the classes in the order that the weights have");
    program.console.warn(difference);
  }
  const torch::Device device = device_of(config);
  model.network->to(device);
  const std::int64_t plain = config.train.batch == "auto" || config.train.batch == "-1"
                                 ? 16
                                 : count_or_auto(config.train.batch, "train.batch");
  Evaluation evaluation(config, data, plain, budget);
  evaluation.summary(*model.network, device);
  run_folder.keep();
  evaluation.warn_of_unreadable(program.console);
  evaluation.print_table(program.console);
  const EvaluationResult& r = evaluation.result();
  const double images = std::max<double>(1, static_cast<double>(r.images));
  program.console.print(fmt::format(
      "{} images at {} pixels: {:.1f} ms forward, {:.1f} ms suppression, {:.1f} ms wait per image",
      r.images, config.train.img, 1e3 * r.forward_seconds / images, 1e3 * r.nms_seconds / images,
      1e3 * r.wait_seconds / images));
  const std::string document = evaluation.to_json();
  write_file_atomically(folder + "/metrics.json", document.data(), document.size());
  if (config.output.plots) evaluation.draw(folder);
  program.console.print(fmt::format(
      "metrics.json{} in {}", config.output.plots ? ", plots and pictures are" : " is", folder));
  if (as_json) program.console.json(document);
}

}  // namespace

void add_val_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand("val", "Measures a trained network on labelled data");
  command->footer(
      "Example: brim val --data data.yaml --weights runs/train/exp/best.pt val.split=test");
  struct State {
    std::unique_ptr<ConfigOptions> options;
    bool json = false;
  };
  auto state = std::make_shared<State>();
  state->options = std::make_unique<ConfigOptions>(*command, without_image_size());
  state->options->add_value(*command, "--conf,--conf-thres", "val.conf");
  state->options->add_value(*command, "--iou,--iou-thres", "val.iou");
  command->add_flag("--json", state->json, "print the result as JSON");
  command->callback([&program, state] {
    program.console.set_quiet(state->json);
    for (const std::string& note : state->options->notes()) program.console.warn(note);
    val(program, state->options->resolve(), state->json);
  });
}

}  // namespace brim::cli
