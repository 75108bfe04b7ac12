#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/autotune/measurement.h"

namespace brim::autotune {

/// How a probe's process is run.
struct ProbeProcessOptions {
  std::string executable{};  ///< full path
  std::vector<std::string> arguments{};
  double timeout_seconds = 60;  ///< per measurement, the start included
};

/// A child process that measures one batch after another (see serve_probes): it is asked on its
/// standard input and answers on its standard output, so its start is paid once. Whatever ends the
/// child or keeps it beyond its time means Outcome::Died for the batch at hand, never more: the
/// next one gets a child of its own. Started at the first measurement; ends with the object.
///
///   ProbeProcess probe({.executable = self, .arguments = {"probe", ...}});
///   const BatchPlan plan = choose_batch({}, goal, [&](auto batch) { return probe.measure(batch);
///   });
class ProbeProcess {
 public:
  explicit ProbeProcess(ProbeProcessOptions options);
  ~ProbeProcess();
  ProbeProcess(const ProbeProcess&) = delete;
  ProbeProcess& operator=(const ProbeProcess&) = delete;

  /// Starts the child now, so that it is ready when the first measurement is asked for.
  void start();
  Measurement measure(std::int64_t batch);

 private:
  std::string end();  // of the child; how it ended
  std::string read_line(double until_seconds);
  Measurement died(std::int64_t batch, std::string why) const;

  ProbeProcessOptions options_;
  int channel_ = -1;
  long child_ = -1;
  std::string refused_;  // why the child could not be started
};

/// For the child: answers every batch size that standard input holds, one line each, with what
/// `measure` finds, until there are no more. Returns the exit code.
int serve_probes(const std::function<Measurement(std::int64_t batch)>& measure);

/// For the child, first thing: dies with its parent, is the first victim of the system's
/// out-of-memory killer, and gets no more private memory than what it has now, what libraries need
/// at work and `data_limit_bytes`, which is the pool's share (0: no limit).
void enter_probe_process(std::int64_t data_limit_bytes);

std::string to_json(const Measurement& measurement);
/// Throws Error when `line` is not what to_json writes.
Measurement measurement_from_json(const std::string& line);

}  // namespace brim::autotune
