#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brim/autotune/measurement.h"

namespace brim::autotune {

/// How a probe's process is run.
struct ProbeProcessOptions {
  std::string executable{};              ///< full path
  std::vector<std::string> arguments{};  ///< the batch size is appended as the last one
  double timeout_seconds = 60;
};

/// Runs one probe in a child process and reads its Measurement from the child's standard output
/// (one JSON line, see to_json). Whatever ends the child otherwise means Outcome::Died: an
/// out-of-memory kill ends the probe and never the run.
Measurement run_probe_process(const ProbeProcessOptions& options, std::int64_t batch);

/// For the child, first thing: dies with its parent, is the first victim of the system's
/// out-of-memory killer, and cannot hold more than `data_limit_bytes` of private memory (0: no
/// limit).
void enter_probe_process(std::int64_t data_limit_bytes);

std::string to_json(const Measurement& measurement);
/// Throws Error when `line` is not what to_json writes.
Measurement measurement_from_json(const std::string& line);

}  // namespace brim::autotune
