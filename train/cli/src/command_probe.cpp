// brim probe (hidden): measures one batch in a process of its own; brim tune starts it.
#include "account.h"
#include "brim/autotune/probe_process.h"
#include "brim/autotune/training_probe.h"
#include "brim/train/cpu_allocator.h"
#include "config_options.h"
#include "experiment.h"
#include "training.h"
#include "tuning.h"

namespace brim::cli {
namespace {

struct ProbeArguments {
  std::string config;
  int classes = 80;
  std::int64_t boxes = 32, limit = 0, batch = 1;
};

autotune::Measurement probe(const ProbeArguments& arguments) {
  Config config;
  read_yaml(config, arguments.config);
  autotune::enter_probe_process(arguments.limit);
  if (config.memory.allocator == "pool") {
    install_cpu_allocator({.byte_limit = arguments.limit});
  }
  at::set_num_threads(compute_threads(config));
  const auto network = make_network({.model = config.model.name, .classes = arguments.classes});
  const auto objective = build_objective(config, *network);
  return autotune::measure_training(
      network, objective, probe_options(config, *network, arguments.boxes), arguments.batch);
}

}  // namespace

void add_probe_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand("probe", "Measures one batch (started by brim tune)");
  command->group("");  // hidden
  auto arguments = std::make_shared<ProbeArguments>();
  command->add_option("--config", arguments->config)->required();
  command->add_option("--classes", arguments->classes);
  command->add_option("--boxes", arguments->boxes);
  command->add_option("--limit", arguments->limit);
  command->add_option("--probe-batch", arguments->batch)->required();
  command->callback(
      [&program, arguments] { program.console.json(autotune::to_json(probe(*arguments))); });
}

}  // namespace brim::cli
