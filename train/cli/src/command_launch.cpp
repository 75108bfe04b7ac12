// brim launch: starts a command as several ranks on this machine.
#include "launcher.h"
#include "program.h"

#include "brim/cache/error.h"

namespace brim::cli {

void add_launch_command(CLI::App& app, Program& program) {
  CLI::App* command =
      app.add_subcommand("launch", "Starts a training as several processes that work as one");
  command->footer(
      "Examples:\n"
      "  brim launch --nproc 2 -- train --data data.yaml --model yolov5s --batch 32\n"
      "  brim launch --nproc 4 --nnodes 2 --node 0 --address node1 --port 29500 -- train ...");
  auto plan = std::make_shared<LaunchPlan>();
  command->add_option("--nproc", plan->processes, "processes on this machine")
      ->check(CLI::Range(1, 4096));
  command->add_option("--nnodes", plan->nodes, "machines")->check(CLI::Range(1, 65536));
  command->add_option("--node", plan->node, "which of the machines this is, from 0")
      ->check(CLI::Range(0, 65535));
  command->add_option("--address", plan->address, "of the machine of rank 0");
  command->add_option("--port", plan->port, "of rank 0; 0: a free one (one machine only)")
      ->check(CLI::Range(0, 65535));
  command->add_option("command", plan->arguments, "what every rank runs, after --")->required();
  command->callback([&program, plan] {
    catch_stop_signals();
    if (plan->arguments.front() != "train")
      throw Error("several processes can only train, found '" + plan->arguments.front() + "'",
                  {.key = "command"}, "as in: brim launch --nproc 2 -- train --data data.yaml");
    if (plan->nodes > 1 && plan->port == 0)
      throw Error("several machines need one port that all of them know", {.key = "--port"},
                  "as in --port 29500");
    if (plan->node >= plan->nodes)
      throw Error("machine " + std::to_string(plan->node) + " of " + std::to_string(plan->nodes),
                  {.key = "--node"}, "machines count from 0");
    plan->executable = program.executable;
    program.exit_code = launch(*plan);
  });
}

}  // namespace brim::cli
