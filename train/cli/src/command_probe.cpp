// brim probe (hidden): measures batches in a process of its own; brim tune starts it.
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
  std::int64_t boxes = 32, limit = 0;
};

int probe(const ProbeArguments& arguments) {
  Config config;
  read_yaml(config, arguments.config);
  autotune::enter_probe_process(arguments.limit);
  if (config.memory.allocator == "pool") {
    install_cpu_allocator({.byte_limit = arguments.limit});
  }
  const torch::Device device = device_of(config);
  prepare_device(config);
  at::set_num_threads(compute_threads(config));
  const auto subject = [&] {
    autotune::ProbeSubject made;
    made.network = make_network({.model = config.model.name, .classes = arguments.classes});
    made.objective = build_objective(config, *made.network);
    made.options = probe_options(config, *made.network, arguments.boxes);
    return made;
  };
  return autotune::serve_probes(
      [&](std::int64_t batch) { return autotune::measure_training(subject, batch, device); });
}

}  // namespace

void add_probe_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand(
      "probe", "Measures the batches that standard input asks for (started by brim tune)");
  command->group("");  // hidden
  auto arguments = std::make_shared<ProbeArguments>();
  command->add_option("--config", arguments->config)->required();
  command->add_option("--classes", arguments->classes);
  command->add_option("--boxes", arguments->boxes);
  command->add_option("--limit", arguments->limit);
  command->callback([&program, arguments] { program.exit_code = probe(*arguments); });
}

}  // namespace brim::cli
