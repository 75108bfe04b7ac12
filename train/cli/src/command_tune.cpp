// brim tune: measures and proposes the batch, and shows what the choice rests on.
#include <fmt/format.h>

#include <limits>
#include <optional>

#include "brim/train/checkpoint.h"
#include "brim/train/plots.h"
#include "config_options.h"
#include "experiment.h"
#include "loaded_model.h"
#include "program.h"
#include "run_folder.h"
#include "training.h"
#include "tuning.h"

namespace brim::cli {
namespace {

std::vector<std::vector<std::string>> tried_rows(const autotune::BatchPlan& plan) {
  std::vector<std::vector<std::string>> rows{
      {"batch", "outcome", "resident peak", "tensors", "ms/step", "images/s", "probe"}};
  for (const autotune::Measurement& m : plan.tried) {
    const bool fits = m.outcome == autotune::Outcome::Fits;
    rows.push_back({std::to_string(m.batch), fits ? "fits" : m.detail,
                    fits ? format_bytes(m.resident_peak_bytes) : "-",
                    fits ? format_bytes(m.tensor_peak_bytes) : "-",
                    fits ? fmt::format("{:.0f}", 1e3 * m.seconds_per_step) : "-",
                    fits ? fmt::format("{:.1f}", m.images_per_second()) : "-",
                    fmt::format("{:.1f} s", m.wall_seconds)});
  }
  return rows;
}

/// A point of its own: the gap after it keeps the chart from joining it to the next.
void add_point(Series& series, double x, double y) {
  constexpr double kGap = std::numeric_limits<double>::quiet_NaN();
  series.x.insert(series.x.end(), {x, kGap});
  series.y.insert(series.y.end(), {y, kGap});
}

void draw(const TunedBatch& tuned, const std::string& path) {
  constexpr double kMiB = 1 << 20;
  const autotune::BatchPlan& plan = tuned.plan;
  Series measured{.name = "measured"}, fit{.name = "fit"}, budget{.name = "budget"};
  Series speed{.name = "measured"}, speed_fit{.name = "fit"};
  double last = static_cast<double>(plan.batch);
  for (const autotune::Measurement& m : plan.tried) {
    if (m.outcome != autotune::Outcome::Fits) continue;
    const auto batch = static_cast<double>(m.batch);
    last = std::max(last, batch);
    add_point(measured, batch, static_cast<double>(m.resident_peak_bytes) / kMiB);
    add_point(speed, batch, m.images_per_second());
  }
  last = std::max(last * 1.25, std::min(2.0 * last, static_cast<double>(plan.largest_batch)));
  for (double batch = 1; batch <= last; batch += std::max(1.0, last / 64)) {
    fit.x.push_back(batch);
    fit.y.push_back(plan.memory.at(batch) / kMiB);
    budget.x.push_back(batch);
    budget.y.push_back(
        static_cast<double>(tuned.goal.byte_budget - tuned.goal.loader_bytes(plan.batch)) / kMiB);
    speed_fit.x.push_back(batch);
    speed_fit.y.push_back(batch / std::max(plan.step_seconds.at(batch), 1e-9));
  }
  std::vector<Chart> charts{{"memory", "batch", "MiB", {fit, measured}},
                            {"throughput", "batch", "images/s", {speed_fit, speed}}};
  if (budget.y.back() < 4 * fit.y.back()) charts[0].series.push_back(budget);
  plot_charts(charts, 2, path);
}

void tune(Program& program, Config config, Memory memory, bool as_json) {
  const auto data = open_data(config, Split::Train);
  decide_by_length(config, data->size());
  show_warnings(*data, program.console);
  const Task task = task_of(config, *data);
  RunFolder run_folder(config.output, "runs/tune/exp");
  const std::string& folder = run_folder.path();
  const auto budget = make_budget(config);
  std::optional<double> by_one_thread;
  const auto load = [&] {
    if (!by_one_thread) by_one_thread = loaded_by_one_thread(config, data, task, budget);
  };
  TunedBatch tuned = tune_batch(program, config, *data, task, budget, memory, load);
  load();  // a result that is remembered starts no child
  tuned.cores = plan_cores(config, data, task, budget, tuned.plan, *by_one_thread);
  const autotune::BatchPlan& plan = tuned.plan;
  program.console.print(format_table(tried_rows(plan)));
  program.console.print(fmt::format(
      "memory = {} + {} per image ({:.1f}% error); budget {} of which loader {}",
      format_bytes(static_cast<std::int64_t>(plan.memory.constant)),
      format_bytes(static_cast<std::int64_t>(plan.memory.slope)), 100 * plan.memory.relative_error,
      format_bytes(tuned.goal.byte_budget), format_bytes(tuned.goal.loader_bytes(plan.batch))));
  for (const std::string& warning : plan.warnings) program.console.warn(warning);
  program.console.print(plan.why);
  if (tuned.cores.loader_seconds_per_image > 0) {
    program.console.print(fmt::format("{}; the loader alone was seen to deliver {:.1f} images/s",
                                      tuned.cores.joint.why,
                                      tuned.cores.verified_images_per_second));
    program.console.print(fmt::format("{} batches ahead", tuned.cores.prefetch_batches));
    if (!tuned.cores.cache_why.empty()) program.console.print(tuned.cores.cache_why);
  }
  run_folder.keep();
  const std::string document = tuned_json(tuned), fragment = tuned_yaml(tuned);
  write_file_atomically(folder + "/tune.json", document.data(), document.size());
  write_file_atomically(folder + "/tune.yaml", fragment.data(), fragment.size());
  if (config.output.plots) draw(tuned, folder + "/tune.png");
  program.console.print(
      tuned.remembered
          ? "reused an earlier result for this model, size, precision, device and budget; --fresh "
            "measures again"
          : fmt::format("measured in {:.1f} s with {} probes", tuned.seconds, plan.tried.size()));
  program.console.print(fmt::format(
      "tune.json, tune.yaml and tune.png are in {}; brim train --batch auto uses this", folder));
  if (as_json) program.console.json(document);
}

}  // namespace

void add_tune_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand(
      "tune", "Measures memory and speed in child processes and chooses the batch");
  command->footer("Example: brim tune --data data.yaml --model yolov5s --img 640 --memory 6GiB");
  struct State {
    std::unique_ptr<ConfigOptions> options;
    bool json = false, fresh = false;
  };
  auto state = std::make_shared<State>();
  Config defaults;
  defaults.train.batch = "auto";
  defaults.loader.cache = "auto";  // part of the plan unless the user says otherwise
  state->options = std::make_unique<ConfigOptions>(*command, defaults);
  command->add_flag("--fresh", state->fresh,
                    "measure again instead of reusing a remembered result");
  command->add_flag("--json", state->json, "print the result as JSON");
  command->callback([&program, state] {
    program.console.set_quiet(state->json);
    Config config = state->options->resolve();
    take_model_of_weights(config, *state->options, program.console);
    tune(program, config, state->fresh ? Memory::Fresh : Memory::Reuse, state->json);
  });
}

}  // namespace brim::cli
