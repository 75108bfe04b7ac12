#include "brim/train/cpu_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "brim/train/allocation_trace.h"
#include "page_heap.h"

namespace brim {
namespace {
using detail::PageHeap;

struct Peak {
  std::int64_t live = 0, reserved = 0;
  void raise(std::int64_t now_live, std::int64_t now_reserved) {
    live = std::max(live, now_live);
    reserved = std::max(reserved, now_reserved);
  }
};

/// Writes an AllocationTrace down.
class Recorder {
 public:
  void allocate(const void* block, std::size_t bytes) {
    live_[block] = allocations_++;
    trace_.push_back(static_cast<std::int64_t>(bytes));
  }
  void free(const void* block) {
    const auto found = live_.find(block);
    if (found == live_.end()) return;  // made before the recording
    trace_.push_back(-found->second - 1);
    live_.erase(found);
  }
  AllocationTrace take() { return std::move(trace_); }

 private:
  AllocationTrace trace_;
  std::unordered_map<const void*, std::int64_t> live_;
  std::int64_t allocations_ = 0;
};

void free_tensor(void* pointer);

/// The pool and its books. Lives until the process ends: tensors may outlive every static.
class Pool final : public c10::Allocator {
 public:
  explicit Pool(std::size_t virtual_bytes) : heap_(virtual_bytes) {}

  // LibTorch's base class declares one of the two, depending on its version.
  c10::DataPtr allocate(std::size_t bytes) const { return const_cast<Pool*>(this)->make(bytes); }
  c10::DataPtr allocate(std::size_t bytes) { return make(bytes); }
  c10::DeleterFnPtr raw_deleter() const { return &free_tensor; }
  void copy_data(void* to, const void* from, std::size_t bytes) const {
    std::memcpy(to, from, bytes);
  }

  void free(void* pointer) {
    if (!heap_.owns(pointer)) {
      c10::free_cpu(pointer);  // made before the pool was installed
      return;
    }
    const std::lock_guard lock(mutex_);
    if (recorder_) recorder_->free(pointer);
    heap_.free(pointer);
  }

  void configure(const CpuAllocatorOptions& options) {
    const std::lock_guard lock(mutex_);
    heap_.release();
    limit_ = options.byte_limit;
    budget_ = options.budget;
    held_ = Reservation();
    if (budget_ != nullptr)
      held_ =
          budget_->reserve_or_throw("tensors", static_cast<std::int64_t>(heap_.committed_bytes()));
  }

  void set_limit(std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

  AllocatorStatistics statistics() {
    const std::lock_guard lock(mutex_);
    std::int64_t ceiling = limit_;
    if (budget_ != nullptr) {
      const std::int64_t left = std::max(reserved(), held_.bytes()) + budget_->available();
      ceiling = limit_ > 0 ? std::min(limit_, left) : left;
    }
    return {live(), reserved(), all_.live, all_.reserved, allocations_, failures_, limit_, ceiling};
  }

  void reset_peaks() {
    const std::lock_guard lock(mutex_);
    all_ = {live(), reserved()};
    phases_.clear();
  }

  std::int64_t release() {
    const std::lock_guard lock(mutex_);
    const auto given = static_cast<std::int64_t>(heap_.release());
    if (held_) held_.resize(reserved());
    return given;
  }

  void inject_failure(std::int64_t index) {
    const std::lock_guard lock(mutex_);
    fail_at_ = index < 0 ? -1 : allocations_ + index;
  }

  void record() {
    const std::lock_guard lock(mutex_);
    recorder_.emplace();
  }

  AllocationTrace take_trace() {
    const std::lock_guard lock(mutex_);
    AllocationTrace trace = recorder_ ? recorder_->take() : AllocationTrace{};
    recorder_.reset();
    return trace;
  }

  Peak enter_phase() {
    const std::lock_guard lock(mutex_);
    const Peak outer = phase_;
    phase_ = {live(), reserved()};
    return outer;
  }

  void leave_phase(const char* name, Peak outer) {
    const std::lock_guard lock(mutex_);
    PhasePeak& kept = phases_[name];
    kept.live = std::max(kept.live, phase_.live);
    kept.reserved = std::max(kept.reserved, phase_.reserved);
    ++kept.entered;
    outer.raise(phase_.live, phase_.reserved);
    phase_ = outer;
  }

  std::int64_t phase_peak() {
    const std::lock_guard lock(mutex_);
    return phase_.live;
  }

  std::map<std::string, PhasePeak> phases() {
    const std::lock_guard lock(mutex_);
    return phases_;
  }

 private:
  std::int64_t live() const { return static_cast<std::int64_t>(heap_.live_bytes()); }
  std::int64_t reserved() const { return static_cast<std::int64_t>(heap_.committed_bytes()); }
  std::size_t commit_limit() const {
    std::int64_t limit = limit_ > 0 ? limit_ : INT64_MAX;
    if (budget_ != nullptr) limit = std::min(limit, held_.bytes());
    return static_cast<std::size_t>(limit);
  }

  c10::DataPtr make(std::size_t bytes) {
    if (bytes == 0) return {nullptr, nullptr, &free_tensor, c10::Device(c10::DeviceType::CPU)};
    std::unique_lock lock(mutex_);
    if (allocations_ == fail_at_) {
      fail_at_ = -1;
      fail(bytes);
    }
    void* found = heap_.allocate(bytes, commit_limit());
    for (int round = 0; found == nullptr && heap_.lack() == PageHeap::Lack::Limit && round < 8;
         ++round) {
      if (!hold_more(lock, static_cast<std::int64_t>(heap_.missing()))) break;
      found = heap_.allocate(bytes, commit_limit());
    }
    if (found == nullptr) fail(bytes);
    ++allocations_;
    if (recorder_) recorder_->allocate(found, bytes);
    all_.raise(live(), reserved());
    phase_.raise(live(), reserved());
    return {found, found, &free_tensor, c10::Device(c10::DeviceType::CPU)};
  }

  /// Enlarges what is held from the budget by `bytes`. The lock is open meanwhile, because those
  /// who give memory back may free tensors.
  bool hold_more(std::unique_lock<std::mutex>& lock, std::int64_t bytes) {
    if (budget_ == nullptr) return false;
    if (limit_ > 0 && held_.bytes() + bytes > limit_) return false;
    const std::shared_ptr<MemoryBudget> budget = budget_;
    lock.unlock();
    Reservation more = budget->reserve("tensors", bytes);
    lock.lock();
    if (!more || budget != budget_) return false;
    more.release();
    return held_.resize(held_.bytes() + bytes);
  }

  [[noreturn]] void fail(std::size_t bytes) {
    ++failures_;
    std::string why = "the limit is reached";
    if (heap_.lack() == PageHeap::Lack::System) why = "the system gives no more";
    if (heap_.lack() == PageHeap::Lack::AddressSpace) why = "the pool's address space is used up";
    if (heap_.lack() == PageHeap::Lack::Limit && budget_ != nullptr) why = budget_->state();
    TORCH_CHECK_WITH(OutOfMemoryError, false, "brim's CPU allocator: cannot allocate ",
                     format_bytes(static_cast<std::int64_t>(bytes)), ": ", why, " (",
                     format_bytes(live()), " live, ", format_bytes(reserved()), " reserved, limit ",
                     limit_ > 0 ? format_bytes(limit_) : std::string("none"), ")");
    std::abort();
  }

  std::mutex mutex_;
  PageHeap heap_;
  std::int64_t limit_ = 0, allocations_ = 0, failures_ = 0, fail_at_ = -1;
  std::shared_ptr<MemoryBudget> budget_;
  Reservation held_;
  Peak all_, phase_;
  std::map<std::string, PhasePeak> phases_;
  std::optional<Recorder> recorder_;
};

std::atomic<Pool*> g_pool{nullptr};

void free_tensor(void* pointer) {
  if (pointer == nullptr) return;
  g_pool.load(std::memory_order_acquire)->free(pointer);
}

std::int64_t default_virtual_bytes() {
  const std::int64_t pages = ::sysconf(_SC_PHYS_PAGES);
  const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? 4 * pages * page : std::int64_t{64} << 30;
}
}  // namespace

void install_cpu_allocator(const CpuAllocatorOptions& options) {
  static std::mutex once;
  const std::lock_guard lock(once);
  Pool* pool = g_pool.load();
  if (pool == nullptr) {
    const std::int64_t bytes =
        options.virtual_bytes > 0 ? options.virtual_bytes : default_virtual_bytes();
    pool = new Pool(static_cast<std::size_t>(bytes));
    pool->configure(options);
    g_pool.store(pool, std::memory_order_release);
    c10::SetCPUAllocator(pool, 1);
    return;
  }
  pool->configure(options);
}

bool cpu_allocator_installed() {
  return g_pool.load() != nullptr;
}

AllocatorStatistics allocator_statistics() {
  Pool* pool = g_pool.load();
  return pool != nullptr ? pool->statistics() : AllocatorStatistics{};
}

void reset_allocator_peaks() {
  if (Pool* pool = g_pool.load(); pool != nullptr) pool->reset_peaks();
}

void set_allocator_limit(std::int64_t bytes) {
  if (Pool* pool = g_pool.load(); pool != nullptr) pool->set_limit(bytes);
}

std::int64_t release_cpu_memory() {
  Pool* pool = g_pool.load();
  return pool != nullptr ? pool->release() : 0;
}

void inject_allocation_failure(std::int64_t index) {
  if (Pool* pool = g_pool.load(); pool != nullptr) pool->inject_failure(index);
}

void record_allocations() {
  if (Pool* pool = g_pool.load(); pool != nullptr) pool->record();
}

AllocationTrace take_allocation_trace() {
  Pool* pool = g_pool.load();
  return pool != nullptr ? pool->take_trace() : AllocationTrace{};
}

AllocatorPhase::AllocatorPhase(const char* name) : name_(name) {
  if (Pool* pool = g_pool.load(); pool != nullptr) {
    const Peak outer = pool->enter_phase();
    outer_live_ = outer.live;
    outer_reserved_ = outer.reserved;
  }
}

AllocatorPhase::~AllocatorPhase() {
  if (Pool* pool = g_pool.load(); pool != nullptr)
    pool->leave_phase(name_, {outer_live_, outer_reserved_});
}

std::int64_t AllocatorPhase::peak_live() const {
  Pool* pool = g_pool.load();
  return pool != nullptr ? pool->phase_peak() : 0;
}

std::map<std::string, PhasePeak> allocator_phases() {
  Pool* pool = g_pool.load();
  return pool != nullptr ? pool->phases() : std::map<std::string, PhasePeak>{};
}

}  // namespace brim
