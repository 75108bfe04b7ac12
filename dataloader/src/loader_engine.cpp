#include "loader_engine.h"

#include <algorithm>
#include <utility>

#include "brim/cache/error.h"

namespace brim::detail {

WorkerScratch::WorkerScratch(const DecodeLimits& limits, const Transform& transform_of)
    : load(limits), transform(transform_of.make_scratch()) {}

Engine::Engine(EngineParts parts, std::shared_ptr<const Sampler> sampler, Quarantine& quarantine)
    : dataset_(std::move(parts.dataset)),
      transform_(std::move(parts.transform)),
      options_(std::move(parts.options)),
      plan_(parts.plan),
      order_(std::move(sampler), options_),
      source_(*dataset_, *transform_, options_, quarantine),
      home_(std::make_shared<SlotHome>()),
      window_(options_.lanes, options_.window),
      quarantine_(quarantine) {
  home_->memory = options_.slot_memory;
  home_->reservation = parts.budget->reserve_or_throw("loader", plan_.total_bytes);
  for (std::int64_t i = 0; i < plan_.slots; ++i) {
    home_->add_slot(plan_.batch_size, transform_->width(), transform_->height());
  }
  for (int i = 0; i < std::max(plan_.workers, 1); ++i) {
    scratches_.push_back(std::make_unique<WorkerScratch>(options_.decode, *transform_));
    scratches_.back()->load.decoder.call_off_when(called_off_);
    free_scratches_.push_back(scratches_.back().get());
  }
  ensure_units();
  if (plan_.workers > 0) workers_ = std::make_unique<Workers>(plan_.workers, options_.niceness);
  if (options_.order == Order::Shuffled || options_.sampler != nullptr) epoch_step_ = 1;
  home_->observer = this;
}

Engine::~Engine() {
  Lock lock(home_->mutex);
  stop_locked(lock);
  home_->observer = nullptr;
}

void Engine::start(std::int64_t epoch, std::int64_t first_batch) {
  if (first_batch < 0 || first_batch > order_.batches()) {
    throw Error("batch " + std::to_string(first_batch) + " of an epoch of " +
                std::to_string(order_.batches()));
  }
  Lock lock(home_->mutex);
  const Cursor at{epoch, first_batch};
  const bool ended = running_ && !stopping_ && deliver_.batch == order_.batches();
  const bool foreseen = ended && !error_ && first_batch == 0 && epoch_step_ != 0 &&
                        epoch == deliver_.epoch + epoch_step_;
  const bool begun = running_ && !stopping_ && !error_ && delivered_ == 0 && deliver_ == at;
  if (ended) {
    epoch_step_ = epoch - deliver_.epoch;
    source_.next_epoch();
  }
  if (!foreseen && !begun) {
    stop_locked(lock);
    issue_ = at;
    begin_epoch(at);
  }
  launch(at);
}

void Engine::launch(const Cursor& at) {
  deliver_ = at;
  running_ = true;
  start_ns_ = idle_since_ns_ = now_ns();
  end_ns_ = wait_ns_ = idle_ns_ = delivered_ = delivered_samples_ = ready_sum_ = 0;
  base_stages_ = {};
  base_ = {};
  base_ = totals(base_stages_);
  wake();
}

void Engine::stop() {
  Lock lock(home_->mutex);
  stop_locked(lock);
}

void Engine::stop_locked(Lock& lock) {
  const std::uint64_t run = run_;
  stopping_ = true;
  called_off_.store(true, std::memory_order_relaxed);
  changed_.notify_all();
  idle_.wait(lock, [&] { return active_ == 0 || run_ != run; });
  if (run_ != run) return;  // another thread's stop() did the rest
  while (!loads_.empty()) window_.release(loads_.pop());
  for (std::size_t i = 0; i < in_flight_.size(); ++i) {
    Slot* slot = in_flight_[i];
    for (Unit& unit : units_[slot->id]) {
      for (WindowEntry*& entry : unit.sources) {
        if (entry != nullptr) window_.release(std::exchange(entry, nullptr));
      }
    }
    home_->free.push_back(slot);
  }
  in_flight_.clear();
  ready_.clear();
  window_.drop_unfinished();
  open_ = nullptr;
  hinting_ = false;
  running_ = stopping_ = false;
  called_off_.store(false, std::memory_order_relaxed);
  error_ = nullptr;
  if (end_ns_ == 0) end_ns_ = now_ns();
  ++run_;
  changed_.notify_all();
  idle_.notify_all();
}

std::shared_ptr<Slot> Engine::next() {
  Lock lock(home_->mutex);
  if (!running_ || stopping_) return nullptr;
  if (deliver_.batch == order_.batches()) {
    if (end_ns_ == 0) end_ns_ = now_ns();
    return nullptr;
  }
  for (std::size_t i = 0; i < in_flight_.size(); ++i) ready_sum_ += in_flight_[i]->complete;
  const std::int64_t begin = now_ns();
  std::shared_ptr<Slot> slot = wait_for_front(lock);
  wait_ns_ += now_ns() - begin;
  return slot;
}

bool Engine::ready() const {
  const Lock lock(home_->mutex);
  if (!running_ || stopping_ || deliver_.batch == order_.batches()) return true;
  return !in_flight_.empty() && in_flight_.front()->complete;
}

std::shared_ptr<Slot> Engine::wait_for_front(Lock& lock) {
  const std::uint64_t run = run_;
  while (running_ && !stopping_ && run_ == run) {
    if (!in_flight_.empty() && in_flight_.front()->complete) return deliver();
    if (error_ && active_ == 0) {
      const std::exception_ptr error = error_;
      stop_locked(lock);
      std::rethrow_exception(error);
    }
    if (!error_ && in_flight_.empty() && home_->free.empty()) grow_slots();
    if (plan_.workers == 0) {
      run_inline(lock);
    } else {
      wake();
      changed_.wait(lock);
    }
  }
  return nullptr;
}

std::shared_ptr<Slot> Engine::deliver() {
  Slot* slot = in_flight_.pop();
  ++deliver_.batch;
  ++delivered_;
  delivered_samples_ += slot->size;
  if (deliver_.batch == order_.batches()) {
    note_time();
    end_ns_ = now_ns();
  }
  return home_->handle(slot);
}

void Engine::run_inline(Lock& lock) {
  WorkerScratch& scratch = *free_scratches_.back();
  Job job;
  try {
    job = take();
  } catch (...) {
    error_ = std::current_exception();
    return;
  }
  if (job.kind == Job::Kind::None) {
    if (error_) return;
    throw std::logic_error("the loader has nothing to do and no batch to give");
  }
  ++active_;
  lock.unlock();
  const std::exception_ptr error = perform(job, scratch);
  lock.lock();
  finish(job, error, lock);
  if (--active_ == 0) idle_.notify_all();
}

void Engine::grow_slots() {
  // The caller keeps every batch it was given: another one, or an end that says why.
  if (!home_->reservation.resize(home_->reservation.bytes() + plan_.slot_bytes)) {
    throw Error("all " + std::to_string(home_->slots.size()) +
                    " batches of the loader are held by the caller and the memory budget has no "
                    "room for another",
                {.key = "memory"}, "let go of batches, or copy them");
  }
  home_->add_slot(plan_.batch_size, transform_->width(), transform_->height());
  ensure_units();
}

void Engine::ensure_units() {
  while (units_.size() < home_->slots.size()) {
    units_.emplace_back(static_cast<std::size_t>(plan_.batch_size));
  }
}

void Engine::on_slot_freed() {
  wake();
}

void Engine::note_time() {
  const std::int64_t now = now_ns();
  if (end_ns_ == 0) {
    const std::int64_t waited = idle_workers() * (now - idle_since_ns_);
    idle_ns_ += waited;
    source_.waited(waited);
  }
  idle_since_ns_ = now;
}

LoaderStatistics Engine::totals(std::array<StageCounts, kStages>& stages) const {
  LoaderStatistics sums;
  for (const auto& scratch : scratches_) scratch->load.recorder.add_to(stages, sums);
  sums.bad_samples = quarantine_.bad_count();
  return sums;
}

LoaderStatistics Engine::statistics() const {
  Lock lock(home_->mutex);
  std::array<StageCounts, kStages> stages{};
  LoaderStatistics s = totals(stages);
  s.decoded_bytes -= base_.decoded_bytes;
  s.cache_hits -= base_.cache_hits;
  s.cache_misses -= base_.cache_misses;
  s.cache_kept -= base_.cache_kept;
  s.cache_kept_bytes -= base_.cache_kept_bytes;
  s.bad_samples -= base_.bad_samples;
  s.samples = delivered_samples_;
  s.batches = delivered_;
  const std::int64_t now = now_ns();
  s.elapsed_ns = start_ns_ == 0 ? 0 : (end_ns_ != 0 ? end_ns_ : now) - start_ns_;
  s.consumer_wait_ns = wait_ns_;
  s.worker_idle_ns = idle_ns_;
  if (running_ && end_ns_ == 0) s.worker_idle_ns += idle_workers() * (now - idle_since_ns_);
  s.worker_idle_ns = std::min(s.worker_idle_ns, plan_.workers * s.elapsed_ns);
  s.mean_ready_batches =
      delivered_ == 0 ? 0 : static_cast<double>(ready_sum_) / static_cast<double>(delivered_);
  s.workers = plan_.workers;
  for (std::size_t i = 0; i < kStages; ++i) {
    StageCounts& counts = stages[i];
    counts.items -= base_stages_[i].items;
    counts.busy_ns -= base_stages_[i].busy_ns;
    for (std::size_t b = 0; b < kBuckets; ++b) counts.buckets[b] -= base_stages_[i].buckets[b];
    s.stages.push_back({stage_name(static_cast<Stage>(i)), counts.items, counts.busy_ns,
                        counts.percentile_us(0.5), counts.percentile_us(0.9),
                        counts.percentile_us(0.99)});
  }
  return s;
}

}  // namespace brim::detail
