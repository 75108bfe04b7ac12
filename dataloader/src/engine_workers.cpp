#include "engine_workers.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

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

/// What every call passes. On a busy machine the library may bring a thread long after the workers
/// that the call was for have gone: it finds the gate closed, or opened again for others.
class Gate {
 public:
  /// Opens it for calls that carry the number returned.
  std::uint64_t open(int niceness) {
    const std::lock_guard lock(mutex_);
    normal_ = ::getpriority(PRIO_PROCESS, 0);
    niceness_ = niceness;
    open_ = true;
    return ++opening_;
  }
  /// Lets no further call in and waits for those inside.
  void close() {
    std::unique_lock lock(mutex_);
    open_ = false;
    left_.wait(lock, [this] { return inside_ == 0; });
  }

  __attribute__((noinline)) void pass(std::uint64_t opening, Workers::Function function,
                                      void* argument) {
    calls_handed_over.load(std::memory_order_acquire);
    if (!enter(opening)) return;
    {
      const LowPriority low(normal_, niceness_);
      function(argument);
    }
    leave();
  }

 private:
  bool enter(std::uint64_t opening) {
    const std::lock_guard lock(mutex_);
    if (!open_ || opening != opening_) return false;
    ++inside_;
    return true;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    if (--inside_ == 0 && !open_) left_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable left_;
  int normal_ = 0, niceness_ = 0;
  bool open_ = false;
  std::uint64_t opening_ = 0;
  int inside_ = 0;  ///< calls
};

/// All gates, as many as loaders lived at once. They are used again and never destroyed, not even
/// at the program's end: a late thread may still come to one.
class Gates {
 public:
  static Gates& instance() {
    static auto* const gates = new Gates;
    return *gates;
  }
  Gate* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      all_.push_back(std::make_unique<Gate>());
      free_.reserve(all_.size());
      return all_.back().get();
    }
    Gate* gate = free_.back();
    free_.pop_back();
    return gate;
  }
  void give_back(Gate* gate) {
    const std::lock_guard lock(mutex_);
    free_.push_back(gate);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Gate>> all_{};
  std::vector<Gate*> free_{};
};

}  // namespace

struct Workers::Impl {
  Impl(int count, int niceness)
      : ceiling(shared_ceiling()),
        arena(std::max(count, 1), 0),
        gate(Gates::instance().take()),
        opening(gate->open(niceness)) {}
  ~Impl() {
    gate->close();
    Gates::instance().give_back(gate);
  }

  std::shared_ptr<tbb::global_control> ceiling;
  tbb::task_arena arena;
  Gate* gate;
  std::uint64_t opening;
};

Workers::Workers(int count, int niceness) : impl_(std::make_unique<Impl>(count, niceness)) {}
Workers::~Workers() = default;

void Workers::enqueue(Function function, void* argument) {
  calls_handed_over.fetch_add(1, std::memory_order_release);
  // The library carries the captured words to another thread unseen by ThreadSanitizer.
  impl_->arena.enqueue(
      [ gate = impl_->gate, opening = impl_->opening, function, argument ]()
          __attribute__((no_sanitize("thread"))) { gate->pass(opening, function, argument); });
}

}  // namespace brim::detail
