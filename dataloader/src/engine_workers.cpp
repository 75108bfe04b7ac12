#include "engine_workers.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
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

/// Orders what a thread did before it enqueued a call before what the call does. The library orders
/// them too, out of sight of ThreadSanitizer.
std::atomic<std::uint64_t> calls_handed_over{0};

/// What every call passes. It outlives the workers, because on a busy machine the library may bring
/// a thread long after the loader that called it has gone: it ends with the last call.
class Gate {
 public:
  explicit Gate(int niceness) : normal_(::getpriority(PRIO_PROCESS, 0)), niceness_(niceness) {}
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  /// A call is on its way.
  void expect() {
    const std::lock_guard lock(mutex_);
    ++expected_;
  }

  __attribute__((noinline)) void call(Workers::Function function, void* argument) {
    calls_handed_over.load(std::memory_order_acquire);
    const bool open = enter();
    if (open) {
      const LowPriority low(normal_, niceness_);
      function(argument);
    }
    if (leave(open)) delete this;
  }

  /// Lets no further call in and waits for those inside.
  void close() {
    std::unique_lock lock(mutex_);
    open_ = false;
    left_.wait(lock, [this] { return inside_ == 0; });
    closed_ = true;
    const bool last = expected_ == 0;
    lock.unlock();
    if (last) delete this;
  }

 private:
  ~Gate() = default;
  bool enter() {
    const std::lock_guard lock(mutex_);
    if (open_) ++inside_;
    return open_;
  }
  /// True where nobody needs the gate any more.
  bool leave(bool was_inside) {
    const std::lock_guard lock(mutex_);
    if (was_inside && --inside_ == 0 && !open_) left_.notify_all();
    return --expected_ == 0 && closed_;
  }

  const int normal_, niceness_;
  std::mutex mutex_;
  std::condition_variable left_;
  bool open_ = true, closed_ = false;
  int expected_ = 0;  ///< calls enqueued and not ended
  int inside_ = 0;    ///< calls begun and not ended
};

}  // namespace

struct Workers::Impl {
  Impl(int count, int niceness)
      : ceiling(shared_ceiling()), arena(std::max(count, 1), 0), gate(new Gate(niceness)) {}
  ~Impl() { gate->close(); }

  std::shared_ptr<tbb::global_control> ceiling;
  tbb::task_arena arena;
  Gate* gate;
};

Workers::Workers(int count, int niceness) : impl_(std::make_unique<Impl>(count, niceness)) {}
Workers::~Workers() = default;

void Workers::enqueue(Function function, void* argument) {
  impl_->gate->expect();
  calls_handed_over.fetch_add(1, std::memory_order_release);
  // The library carries the captured words to another thread unseen by ThreadSanitizer.
  impl_->arena.enqueue([ gate = impl_->gate, function, argument ]() __attribute__((
      no_sanitize("thread"))) { gate->call(function, argument); });
}

}  // namespace brim::detail
