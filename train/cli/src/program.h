#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <string>

#include "console.h"

namespace brim::cli {

/// Set by SIGINT and SIGTERM once they are caught; long work ends after its current step when it is
/// true. A second signal ends the process at once.
extern std::atomic<bool> stop_requested;
/// For commands that look at stop_requested. The others end where they are.
void catch_stop_signals();

/// What commands share.
struct Program {
  Console console;
  std::string executable;  ///< full path of this program, for child processes
  int exit_code = 0;
};

// Each adds its subcommand, with an example in --help, to `app`.
void add_train_command(CLI::App& app, Program& program);
void add_val_command(CLI::App& app, Program& program);
void add_predict_command(CLI::App& app, Program& program);
void add_tune_command(CLI::App& app, Program& program);
void add_cache_command(CLI::App& app, Program& program);
void add_data_command(CLI::App& app, Program& program);
void add_inspect_command(CLI::App& app, Program& program);
void add_bench_command(CLI::App& app, Program& program);
void add_launch_command(CLI::App& app, Program& program);

/// The whole program. Exit codes: 0 done, 1 a defect of brim, 2 a fault the user can mend,
/// 130 stopped by a signal.
int run_program(int argc, char** argv);

/// `<user's cache folder>/brim`, from XDG_CACHE_HOME and HOME.
std::string user_cache_directory();

}  // namespace brim::cli
