#include "stall_trigger.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "cgroup.h"

namespace brim::detail {
namespace {

/// Microseconds of stall within microseconds of time; without privileges the kernel takes only
/// multiples of two seconds.
constexpr std::string_view kTrigger = "some 100000 2000000";

PosixFile watch(const std::string& file) {
  PosixFile pressure = open_file(file, O_RDWR | O_NONBLOCK);
  // The kernel wants the closing zero byte too.
  if (pressure && ::write(pressure.get(), kTrigger.data(), kTrigger.size() + 1) < 0)
    return PosixFile();
  return pressure;
}

}  // namespace

StallTrigger::StallTrigger() : stopped_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void StallTrigger::open(const std::string& file) {
  if (file != "auto") {
    pressure_ = watch(file);
    return;
  }
  for (const CgroupLevel& level : cgroup_levels("/", "memory")) {
    if (!level.unified) continue;
    pressure_ = watch(level.directory + "/memory.pressure");
    if (pressure_) return;
  }
  pressure_ = watch("/proc/pressure/memory");
}

StallTrigger::Woken StallTrigger::wait(int timeout_ms) {
  std::array<pollfd, 2> files{pollfd{stopped_.get(), POLLIN, 0},
                              pollfd{pressure_.get(), POLLPRI, 0}};
  const int ready = ::poll(files.data(), pressure_ ? 2 : 1, timeout_ms);
  if (stop_) return Woken::Stopped;
  if (ready <= 0) return Woken::TimedOut;
  // A group that is gone is told as an error and as a stall, at every call from then on.
  if ((files[1].revents & (POLLERR | POLLNVAL)) != 0) pressure_ = PosixFile();
  return pressure_ && (files[1].revents & POLLPRI) != 0 ? Woken::Stalled : Woken::TimedOut;
}

void StallTrigger::stop() {
  stop_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stopped_.get(), &one, sizeof one);
}

}  // namespace brim::detail
