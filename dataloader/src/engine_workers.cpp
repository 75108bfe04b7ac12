#include "engine_workers.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_scheduler_observer.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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

/// Lowers a thread's priority while it works in the arena. Raising it again is tried and needs a
/// right that ordinary processes lack; a TBB thread that stays low is the lesser evil.
class Priority final : public tbb::task_scheduler_observer {
 public:
  Priority(tbb::task_arena& arena, int niceness)
      : tbb::task_scheduler_observer(arena),
        normal_(::getpriority(PRIO_PROCESS, 0)),
        lowered_(std::min(normal_ + niceness, 19)) {
    ready_.store(true, std::memory_order_release);
    if (niceness > 0) observe(true);
  }
  ~Priority() override {
    observe(false);  // waits for calls in progress
    calls_.load(std::memory_order_acquire);
  }

  void on_scheduler_entry(bool is_worker) override {
    if (is_worker) set_once_ready(lowered_);
  }
  void on_scheduler_exit(bool is_worker) override {
    if (is_worker) set_once_ready(normal_);
  }

 private:
  /// The counters order these calls after the constructor and before the destructor; the thread
  /// library does so too, out of sight of ThreadSanitizer.
  void set_once_ready(const int& priority) {
    if (ready_.load(std::memory_order_acquire)) {
      const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
      ::setpriority(PRIO_PROCESS, thread, priority);
    }
    calls_.fetch_add(1, std::memory_order_release);
  }
  int normal_;
  int lowered_;
  std::atomic<bool> ready_{false};
  std::atomic<std::uint64_t> calls_{0};
};

}  // namespace

struct Workers::Impl {
  Impl(int count, int niceness)
      : ceiling(shared_ceiling()), arena(std::max(count, 1), 0), priority(arena, niceness) {}

  __attribute__((noinline)) void call(Function function, void* argument) {
    calls.load(std::memory_order_acquire);
    function(argument);
  }

  std::shared_ptr<tbb::global_control> ceiling;
  tbb::task_arena arena;
  Priority priority;
  std::atomic<std::uint64_t> calls{0};  ///< orders what the caller did before what the worker does
};

Workers::Workers(int count, int niceness) : impl_(std::make_unique<Impl>(count, niceness)) {}
Workers::~Workers() = default;

void Workers::enqueue(Function function, void* argument) {
  impl_->calls.fetch_add(1, std::memory_order_release);
  // The library carries the captured words to another thread unseen by ThreadSanitizer.
  impl_->arena.enqueue([ impl = impl_.get(), function, argument ]() __attribute__((
      no_sanitize("thread"))) { impl->call(function, argument); });
}

}  // namespace brim::detail
