// brim predict: finds objects, or names the class, in images without labels.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "brim/dataloader/loader.h"
#include "brim/train/checkpoint.h"
#include "config_options.h"
#include "evaluation.h"
#include "experiment.h"
#include "image_files.h"
#include "loaded_model.h"
#include "program.h"
#include "run_folder.h"
#include "training.h"

namespace brim::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct PredictArguments {
  std::vector<std::string> sources;
  bool as_json = false;
};

/// What was predicted for every image, as text files, pictures and JSON.
class Predictions {
 public:
  Predictions(const ImageFiles& files, const std::vector<std::string>& names, std::string folder,
              bool plots)
      : files_(files), names_(names), folder_(std::move(folder)), plots_(plots) {
    fs::create_directories(folder_ + "/labels");
  }

  /// Detection rows: class, centre, size (fractions of the image), confidence.
  void add(const SampleInfo& sample, const std::vector<Detection>& detections) {
    const std::string path = files_.path(sample.index);
    const auto width = static_cast<float>(sample.placement.original_width);
    const auto height = static_cast<float>(sample.placement.original_height);
    std::ofstream text(folder_ + "/labels/" + files_.unique_stem(sample.index) + ".txt");
    json boxes = json::array();
    for (const Detection& d : detections) {
      const BoxF& b = d.box;
      text << fmt::format("{} {:.6f} {:.6f} {:.6f} {:.6f} {:.4f}\n", d.class_id,
                          (b.x1 + b.x2) / 2 / width, (b.y1 + b.y2) / 2 / height,
                          (b.x2 - b.x1) / width, (b.y2 - b.y1) / height, d.confidence);
      boxes.push_back({{"class", names_.at(static_cast<std::size_t>(d.class_id))},
                       {"confidence", d.confidence},
                       {"box", {b.x1, b.y1, b.x2, b.y2}}});
    }
    text.flush();
    if (!text) throw Error("cannot write", {.file = folder_}, "is the disk full?");
    if (plots_) draw(sample.index, picture_boxes(detections), "");
    document_.push_back(
        {{"file", path}, {"name", files_.unique_stem(sample.index)}, {"boxes", boxes}});
    objects_ += std::ssize(detections);
  }

  void add(const SampleInfo& sample, const torch::Tensor& probabilities) {
    const auto [best, classes] =
        probabilities.topk(std::min<std::int64_t>(5, probabilities.numel()));
    json row = json::array();
    std::ofstream text(folder_ + "/labels/" + files_.unique_stem(sample.index) + ".txt");
    for (std::int64_t i = 0; i < best.numel(); ++i) {
      const std::string& name =
          names_.at(static_cast<std::size_t>(classes[i].item<std::int64_t>()));
      text << fmt::format("{:.4f} {}\n", best[i].item<float>(), name);
      row.push_back({{"class", name}, {"probability", best[i].item<float>()}});
    }
    if (plots_) {
      draw(sample.index, {},
           fmt::format("{} {:.2f}", row[0]["class"].get<std::string>(),
                       row[0]["probability"].get<double>()));
    }
    document_.push_back({{"file", files_.path(sample.index)},
                         {"name", files_.unique_stem(sample.index)},
                         {"classes", row}});
  }

  std::int64_t images() const { return std::ssize(document_); }
  std::int64_t objects() const { return objects_; }
  const json& document() const { return document_; }

 private:
  void draw(std::int64_t index, std::vector<PictureBox> boxes, std::string caption) {
    Image image;
    files_.decode(index, image);
    draw_picture({image.view(), std::move(boxes), std::move(caption)}, names_,
                 folder_ + "/" + files_.unique_stem(index) + ".jpg");
  }

  const ImageFiles& files_;
  const std::vector<std::string>& names_;
  std::string folder_;
  bool plots_;
  json document_ = json::array();
  std::int64_t objects_ = 0;
};

void predict(Program& program, Config config, const PredictArguments& arguments) {
  const auto files = std::make_shared<ImageFiles>(arguments.sources);
  require_unused(config.output);
  RunFolder run_folder(config.output, "runs/predict/exp");
  const std::string& folder = run_folder.path();
  std::set<fs::path> beside;
  for (std::int64_t i = 0; i < files->size(); ++i)
    beside.insert(fs::absolute(files->path(i)).parent_path());
  for (const fs::path& sources : beside) {
    std::error_code ignored;
    if (fs::equivalent(sources, folder, ignored))
      throw Error("the pictures would take the place of their sources", {.key = "output.dir"},
                  "choose another folder than '" + folder + "'");
  }
  const auto budget = make_budget(config);
  prepare_compute(config, budget);
  prepare_device(config);
  std::vector<std::string> names;
  if (!config.data.path.empty()) names = open_data(config, Split::Train)->class_names();
  const LoadedModel model = load_model(config, names, program.console);
  const Task task = model.network->task();
  const torch::Device device = device_of(config);
  model.network->to(device);

  LoaderOptions options = evaluation_loader(config, 8, nullptr, budget);
  options.max_bad_fraction = 1.0;
  Loader loader(files, evaluation_transform(config, task), options);
  const auto source = make_batch_source(loader, device);
  Predictions predictions(*files, model.class_names, folder, config.output.plots);
  EvaluateOptions evaluate_options;
  evaluate_options.device = device;
  evaluate_options.precision =
      resolve_precision(parse_precision(config.train.precision, "train.precision"), device);
  evaluate_options.nms = {.confidence = config.predict.conf,
                          .iou = config.predict.iou,
                          .max_detections = static_cast<int>(config.val.max_det)};
  evaluate_options.on_batch = [&](const EvaluatedBatch& batch) {
    run_folder.keep();
    torch::Tensor probabilities;
    if (task == Task::Classify) probabilities = batch.logits.to(torch::kCPU).softmax(1);
    for (std::size_t i = 0; i < batch.batch.samples.size(); ++i) {
      const SampleInfo& sample = batch.batch.samples[i];
      if (sample.replaced) continue;
      if (task == Task::Detect) {
        predictions.add(sample, batch.detections[i]);
      } else {
        predictions.add(sample, probabilities[static_cast<std::int64_t>(i)]);
      }
    }
    program.console.progress(fmt::format("{}/{} images", predictions.images(), files->size()));
  };
  const EvaluationResult result = evaluate(*model.network, *source, evaluate_options);
  std::vector<QuarantineEntry> unreadable = loader.quarantine();
  std::sort(unreadable.begin(), unreadable.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
  for (const QuarantineEntry& bad : unreadable) program.console.warn(bad.path + ": " + bad.reason);
  const std::string document =
      predictions.document().dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  write_file_atomically(folder + "/predictions.json", document.data(), document.size());
  program.console.print(
      task == Task::Detect
          ? fmt::format(
                "{} images, {} objects, {:.1f} ms an image; predictions.json, boxes and pictures "
                "are in {}",
                predictions.images(), predictions.objects(),
                1e3 * result.seconds / std::max<double>(1, static_cast<double>(result.images)),
                folder)
          : fmt::format("{} images; predictions.json, classes and pictures are in {}",
                        predictions.images(), folder));
  if (arguments.as_json) program.console.json(document);
  if (!unreadable.empty())
    throw Error(fmt::format("{} of {} images could not be read", unreadable.size(), files->size()),
                {.key = "--source"}, "the warnings above say why; all others are done");
}

}  // namespace

void add_predict_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand("predict", "Finds objects, or names the class, in images");
  command->footer(
      "Example: brim predict --weights runs/train/exp/best.pt --source photos/ --conf 0.4");
  struct State {
    std::unique_ptr<ConfigOptions> options;
    PredictArguments arguments;
  };
  auto state = std::make_shared<State>();
  state->options = std::make_unique<ConfigOptions>(*command, without_image_size());
  command
      ->add_option_function<std::vector<std::string>>(
          "--source",
          [state](const std::vector<std::string>& words) {
            for (const std::string& word : words) {
              if (is_override(word)) {
                state->options->add_override(word);
              } else {
                state->arguments.sources.push_back(word);
              }
            }
          },
          "images, folders, patterns such as 'photos/*.jpg', or list files (.txt)")
      ->required();
  state->options->add_value(*command, "--conf,--conf-thres", "predict.conf");
  state->options->add_value(*command, "--iou,--iou-thres", "predict.iou");
  command->add_flag("--json", state->arguments.as_json, "print the result as JSON");
  command->callback([&program, state] {
    const ConfigOptions& options = *state->options;
    program.console.set_quiet(state->arguments.as_json);
    for (const std::string& note : options.notes()) program.console.warn(note);
    for (const char* name : {"conf", "iou"})
      if (options.has(std::string("val.") + name))
        throw Error("this key is for measuring, not for predicting",
                    {.key = std::string("val.") + name}, std::string("set predict.") + name);
    predict(program, options.resolve(), state->arguments);
  });
}

}  // namespace brim::cli
