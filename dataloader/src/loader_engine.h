#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include "batch_slot.h"
#include "engine_workers.h"
#include "loader_order.h"
#include "loader_source.h"
#include "loader_window.h"
#include "ring_queue.h"

namespace brim::detail {

/// One sample on its way into a slot.
struct Unit {
  Slot* slot = nullptr;
  std::int64_t entry = 0;  ///< within the batch
  bool padding = false;
  Recipe recipe;
  int pending = 0;  ///< sources that are not decoded yet
  std::array<WindowEntry*, kMaxSources> sources{};
};

struct Job {
  enum class Kind : std::uint8_t { None, Load, Compose, Whole, Hint };
  Kind kind = Kind::None;
  Unit* unit = nullptr;
  WindowEntry* entry = nullptr;
};

/// Working memory of one worker.
struct WorkerScratch {
  WorkerScratch(const DecodeLimits& limits, const Transform& transform);
  LoadScratch load;
  std::unique_ptr<TransformScratch> transform;
  std::array<Source, kMaxSources> sources{};
  std::array<RecordScratch, kMaxSources> records{};
  std::array<const LoadedImage*, kMaxSources> loaded{};
  std::vector<std::unique_ptr<LoadedImage>> images;  ///< sources of a sample made in one piece
  std::vector<std::int64_t> hint_indices;
  std::vector<CacheKey> hint_keys;
};

struct EngineParts {
  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const Transform> transform;
  LoaderOptions options;
  LoaderPlan plan;
  std::shared_ptr<MemoryBudget> budget;
};

/// Turns the order of an epoch into finished batches. Work is handed out sample by sample: first
/// samples whose sources are all decoded, then sources that are waited for, then new samples while
/// a slot is free. A worker that finds nothing leaves; whoever makes work possible (a source
/// decoded, a slot given back) brings one back. Nobody spins and nobody blocks.
///
/// At the end of an epoch it goes on into the epoch that will follow if the last step between
/// epochs repeats, so that the boundary costs nothing.
class Engine final : public SlotObserver {
 public:
  Engine(EngineParts parts, std::shared_ptr<const Sampler> sampler, Quarantine& quarantine);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void start(std::int64_t epoch, std::int64_t first_batch);
  std::shared_ptr<Slot> next();
  bool ready() const;
  void stop();
  const EpochOrder& order() const { return order_; }
  LoaderStatistics statistics() const;
  void on_slot_freed() override;

 private:
  struct Cursor {
    std::int64_t epoch = 0, batch = 0;
    friend bool operator==(const Cursor&, const Cursor&) = default;
  };
  using Lock = std::unique_lock<std::mutex>;

  // loader_engine.cpp: what the consumer sees
  void stop_locked(Lock& lock);
  void launch(const Cursor& at);
  std::shared_ptr<Slot> wait_for_front(Lock& lock);
  void run_inline(Lock& lock);
  void grow_slots();
  std::shared_ptr<Slot> deliver();
  void note_time();
  int idle_workers() const { return std::max(plan_.workers - active_ - called_, 0); }
  LoaderStatistics totals(std::array<StageCounts, kStages>& stages) const;

  // loader_schedule.cpp: what is done next
  Job take();
  void finish(const Job& job, const std::exception_ptr& error, Lock& lock);
  void finish_load(WindowEntry& entry, bool good);
  void finish_unit(Unit& unit, Lock& lock);
  bool has_work() const;
  bool can_issue() const;
  bool open_slot();
  bool hint_due() const;
  std::int64_t issued_samples() const;
  void next_hints(std::vector<std::int64_t>& indices);
  void begin_epoch(const Cursor& at);
  Unit* issue();
  void issue_window(Unit& unit, const Place& place, const RecordedDraw& draw);
  WindowEntry* entry_for(const Place& place, std::int64_t sequence, std::int64_t index);
  void wake();
  void ensure_units();

  // loader_work.cpp: how it is done
  static void work_entry(void* engine);
  void work();
  std::exception_ptr perform(const Job& job, WorkerScratch& scratch);
  void compose(Unit& unit, WorkerScratch& scratch);
  void make_whole(Unit& unit, WorkerScratch& scratch);
  void apply(Unit& unit, WorkerScratch& scratch);
  void hint(WorkerScratch& scratch);

  const std::shared_ptr<const Dataset> dataset_;
  const std::shared_ptr<const Transform> transform_;
  const LoaderOptions options_;
  const LoaderPlan plan_;
  const EpochOrder order_;
  SourceLoader source_;

  const std::shared_ptr<SlotHome> home_;  ///< its mutex guards everything below
  std::condition_variable changed_, idle_;
  std::vector<std::unique_ptr<WorkerScratch>> scratches_;
  std::vector<WorkerScratch*> free_scratches_;
  int active_ = 0;  ///< workers at work
  int called_ = 0;  ///< workers on their way; nobody waits for them
  bool running_ = false, stopping_ = false;
  std::atomic<bool> called_off_{false};  ///< stopping_, for those who decode
  std::uint64_t run_ = 0;
  std::exception_ptr error_;

  Cursor issue_{}, deliver_{};
  std::int64_t epoch_step_ = 0;           ///< from this epoch to the one foreseen; 0: none is
  Slot* open_ = nullptr;                  ///< slot whose samples are being handed out
  std::int64_t open_next_ = 0;            ///< next sample of it
  std::vector<std::vector<Unit>> units_;  ///< by slot
  RingQueue<Slot*> in_flight_;            ///< in order of delivery
  RingQueue<Unit*> ready_;
  RingQueue<WindowEntry*> loads_;
  Window window_;
  struct {
    std::int64_t epoch = 0, sample = 0;
  } hinted_{};  ///< told to the cache up to here
  bool hinting_ = false;

  std::int64_t start_ns_ = 0, end_ns_ = 0, wait_ns_ = 0, idle_ns_ = 0, idle_since_ns_ = 0;
  std::int64_t delivered_ = 0, delivered_samples_ = 0, ready_sum_ = 0;
  std::array<StageCounts, kStages> base_stages_{};
  LoaderStatistics base_{};
  Quarantine& quarantine_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace brim::detail
