#pragma once

#include <string>
#include <vector>

namespace brim::cli {

/// What `brim launch` starts.
struct LaunchPlan {
  std::string executable{};
  std::vector<std::string> arguments{};  ///< of every rank
  int processes = 2;                     ///< on this machine
  int nodes = 1, node = 0;               ///< machines, and which of them this is
  std::string address = "127.0.0.1";
  int port = 0;  ///< 0: a free one (one machine only)
  double grace_seconds = 10;
};

/// Starts the ranks of this machine, passes SIGINT and SIGTERM on to them, and returns when all
/// have ended: 0, or the code of the first that failed. When one fails the others get
/// `grace_seconds` to say so themselves, then SIGTERM, then SIGKILL. They end with this process,
/// however it ends.
int launch(const LaunchPlan& plan);

/// A TCP port of this machine that is free now.
int free_port();

}  // namespace brim::cli
