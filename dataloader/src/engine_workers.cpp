#include "engine_workers.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace brim::detail {
namespace {

/// More threads than any set of loaders asks for. The smallest of all such controls holds for the
/// whole process, so loaders share one instead of each capping the others.
constexpr std::size_t kThreadCeiling = 1025;

std::shared_ptr<tbb::global_control> shared_ceiling() {
  static std::mutex mutex;
  static std::weak_ptr<tbb::global_control> ceiling;
  const std::lock_guard lock(mutex);
  std::shared_ptr<tbb::global_control> control = ceiling.lock();
  if (!control) {
    control = std::make_shared<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                    kThreadCeiling);
    ceiling = control;
  }
  return control;
}

/// Lowers the priority of the library's thread while it serves a call. Raising it again is tried
/// and needs a right that ordinary processes lack; a thread that stays low is the lesser evil.
class LowPriority {
 public:
  LowPriority(int normal, int niceness) : normal_(normal), niceness_(niceness) {
    if (niceness_ > 0) ::setpriority(PRIO_PROCESS, 0, std::min(normal_ + niceness_, 19));
  }
  ~LowPriority() {
    if (niceness_ > 0) ::setpriority(PRIO_PROCESS, 0, normal_);
  }
  LowPriority(const LowPriority&) = delete;
  LowPriority& operator=(const LowPriority&) = delete;

 private:
  int normal_;
  int niceness_;
};

/// What every call passes. It outlives the workers: on a busy machine the library may bring a
/// thread long after the loader that called it has gone.
class Gate {
 public:
  explicit Gate(int niceness) : normal_(::getpriority(PRIO_PROCESS, 0)), niceness_(niceness) {}

  /// Orders what the caller of `enqueue` did before what the call does.
  void pass_on() { const std::lock_guard lock(mutex_); }

  __attribute__((noinline)) void call(Workers::Function function, void* argument) {
    if (!enter()) return;
    {
      const LowPriority low(normal_, niceness_);
      function(argument);
    }
    leave();
  }

  void close() {
    std::unique_lock lock(mutex_);
    open_ = false;
    left_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  bool enter() {
    const std::lock_guard lock(mutex_);
    if (open_) ++inside_;
    return open_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    if (--inside_ == 0 && !open_) left_.notify_all();
  }

  const int normal_, niceness_;
  std::mutex mutex_;
  std::condition_variable left_;
  bool open_ = true;
  int inside_ = 0;
};

}  // namespace

struct Workers::Impl {
  Impl(int count, int niceness)
      : ceiling(shared_ceiling()),
        gate(std::make_shared<Gate>(niceness)),
        arena(std::max(count, 1), 0) {}
  ~Impl() { gate->close(); }

  std::shared_ptr<tbb::global_control> ceiling;
  std::shared_ptr<Gate> gate;
  tbb::task_arena arena;
};

Workers::Workers(int count, int niceness) : impl_(std::make_unique<Impl>(count, niceness)) {}
Workers::~Workers() = default;

void Workers::enqueue(Function function, void* argument) {
  impl_->gate->pass_on();
  // The library carries the captured words to another thread unseen by ThreadSanitizer.
  impl_->arena.enqueue([ gate = impl_->gate, function, argument ]() __attribute__((
      no_sanitize("thread"))) { gate->call(function, argument); });
}

}  // namespace brim::detail
