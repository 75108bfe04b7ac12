#pragma once

#include <string>
#include <vector>

#include "support/child_process.h"

namespace brim::test {

/// How a program ended and what it said.
struct ProcessResult {
  int exit_code = -1;              ///< 128 + signal where a signal ended it
  std::string output;              ///< standard output
  std::string error;               ///< standard error
  std::int64_t peak_resident = 0;  ///< bytes, the largest of it and its own children
};

struct ProcessOptions {
  std::string directory{};  ///< working folder; empty: this one
  WaitOptions wait{};
  std::function<void()> before{};  ///< done in the child before the program takes over
};

/// Runs `words` (program first) to its end.
ProcessResult run_process(const std::vector<std::string>& words,
                          const ProcessOptions& options = {});

/// Runs the `brim` program of this build.
ProcessResult run_brim(std::vector<std::string> arguments, const ProcessOptions& options = {});

/// For ProcessOptions::before: the variables of rank `rank` of `size` ranks of this machine.
std::function<void()> as_rank(int rank, int size, int port);
/// The same where each machine has `local_size` of the ranks.
std::function<void()> as_rank_of_machines(int rank, int size, int local_size, int port);

}  // namespace brim::test
