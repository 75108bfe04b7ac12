// brim data: makes example data sets.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "compose_scenes.h"
#include "program.h"

namespace brim::cli {
namespace {

using Clock = std::chrono::steady_clock;

void make_data(Program& program, const ComposeOptions& options, bool as_json) {
  const auto start = Clock::now();
  std::int64_t first = -1;
  const ComposeReport report = compose_scenes(options, [&](std::int64_t done, std::int64_t total) {
    if (first < 0) first = done;
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double rate = static_cast<double>(done - first) / std::max(seconds, 1e-3);
    std::string line = fmt::format("{}/{} images", done, total);
    if (rate > 0)
      line += fmt::format("  {:.0f}/s  left {}", rate,
                          format_duration(static_cast<double>(total - done) / rate));
    program.console.progress(line);
    return !stop_requested.load();
  });
  program.console.print(fmt::format("{} images made, {} kept: {} to train on, {} to validate",
                                    report.written, report.kept, report.train_images,
                                    report.val_images));
  if (report.finished && report.val_images == 0 && options.val_fraction > 0)
    program.console.warn(
        "so few images leave none to validate on: make more, raise --val, or train with --noval");
  if (!report.finished) {
    program.console.print("stopped as asked; the same command goes on from here");
    program.exit_code = 130;
  } else {
    program.console.print("brim train --data " + report.data);
  }
  if (as_json) {
    program.console.json(nlohmann::json({{"written", report.written},
                                         {"kept", report.kept},
                                         {"train_images", report.train_images},
                                         {"val_images", report.val_images},
                                         {"finished", report.finished},
                                         {"data", report.data}})
                             .dump(2));
  }
}

}  // namespace

void add_data_command(CLI::App& app, Program& program) {
  CLI::App* data = app.add_subcommand("data", "Makes example data sets");
  data->require_subcommand(1);
  CLI::App* make = data->add_subcommand(
      "make",
      "Composes scenes of garments (real photographs of Fashion-MNIST) of any number and size");
  make->footer(
      "Example: brim data make --task detect --images 2000 --size 320 --out data/garments\n"
      "A run that was stopped goes on where it was; more --images add to what is there.");
  struct State {
    ComposeOptions options;
    std::string task = "detect";
    bool json = false;
  };
  auto state = std::make_shared<State>();
  make->add_option("--task", state->task, "detect: YOLO boxes; classify: folders of classes")
      ->check(CLI::IsMember({"detect", "classify"}));
  make->add_option("--images", state->options.images, "number of images")
      ->check(CLI::Range(1, 1'000'000'000));
  make->add_option("--size", state->options.size, "side of the images, pixels")
      ->check(CLI::Range(32, 8192));
  make->add_option("--out", state->options.output, "folder of the set")->required();
  make->add_option("--seed", state->options.seed, "another seed makes other scenes");
  make->add_option("--val", state->options.val_fraction, "share of images to validate on")
      ->check(CLI::Range(0.0, 0.9));
  make->add_option("--threads", state->options.threads, "0: all CPUs this process may use");
  make->add_option("--classes", state->options.classes,
                   "only these classes, separated by commas, e.g. trouser,bag")
      ->delimiter(',');
  make->add_option("--source", state->options.source, "folder of IDX files");
  make->add_flag("--json", state->json, "print JSON");
  make->callback([&program, state] {
    catch_stop_signals();
    program.console.set_quiet(state->json);
    state->options.task = state->task == "detect" ? Task::Detect : Task::Classify;
    make_data(program, state->options, state->json);
  });
}

}  // namespace brim::cli
