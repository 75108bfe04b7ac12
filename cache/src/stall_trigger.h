#pragma once

#include <atomic>
#include <string>

#include "posix_file.h"

namespace brim::detail {

/// Waits for the kernel to report that processes stall for want of memory (PSI trigger: 100 ms of
/// stall within two seconds), for a stop, or for a time to pass. One thread waits.
class StallTrigger {
 public:
  StallTrigger();

  /// Watches `file`; "auto": memory.pressure of the process's control group, else the machine's.
  /// Where none can be watched wait() still waits.
  void open(const std::string& file);
  bool watches() const { return static_cast<bool>(pressure_); }

  enum class Woken { TimedOut, Stalled, Stopped };
  Woken wait(int timeout_ms);
  /// Ends every later wait() at once; may be called from any thread.
  void stop();

 private:
  PosixFile pressure_;
  PosixFile stopped_;  ///< wakes at once; without it the next timeout does
  std::atomic<bool> stop_{false};
};

}  // namespace brim::detail
