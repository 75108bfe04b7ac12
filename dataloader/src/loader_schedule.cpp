#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "loader_engine.h"

namespace brim::detail {
namespace {

constexpr std::int64_t kHintChunk = 16;  ///< samples told to the cache at once
constexpr std::int64_t kHintAhead = 64;  ///< how far ahead of the samples being handed out

}  // namespace

void Engine::begin_epoch(const Cursor& at) {
  if (!plan_.shares_window) return;
  for (std::int64_t lane = 0; lane < order_.lanes(); ++lane) {
    window_.seek(lane, order_.first_sequence(at.epoch, at.batch, lane));
  }
}

bool Engine::can_issue() const {
  if (open_ != nullptr) return true;
  if (home_->free.empty()) return false;
  return issue_.batch < order_.batches() || epoch_step_ != 0;
}

bool Engine::has_work() const {
  if (!running_ || stopping_ || error_) return false;
  return !ready_.empty() || !loads_.empty() || can_issue();
}

bool Engine::open_slot() {
  if (open_ != nullptr) return true;
  if (!can_issue()) return false;
  if (issue_.batch == order_.batches()) {
    issue_ = {issue_.epoch + epoch_step_, 0};
    begin_epoch(issue_);
  }
  open_ = home_->free.back();
  home_->free.pop_back();
  open_->number = issue_.batch;
  open_->size = order_.batch_samples(issue_.batch);
  open_->complete = false;
  open_->unfinished = open_->size;
  open_next_ = 0;
  in_flight_.push(open_);
  return true;
}

Job Engine::take() {
  if (!running_ || stopping_ || error_) return {};
  while (true) {
    if (!ready_.empty()) return {Job::Kind::Compose, ready_.pop(), nullptr};
    while (!loads_.empty()) {
      WindowEntry* entry = loads_.pop();
      if (entry->holders > 1) {
        entry->state = WindowEntry::State::Loading;
        return {Job::Kind::Load, nullptr, entry};
      }
      window_.release(entry);  // nobody wants it any more
    }
    if (hint_due()) {
      hinting_ = true;
      return {Job::Kind::Hint, nullptr, nullptr};
    }
    if (!open_slot()) return {};
    Unit* unit = issue();
    if (!plan_.shares_window) return {Job::Kind::Whole, unit, nullptr};
  }
}

Unit* Engine::issue() {
  Unit& unit = units_[open_->id][static_cast<std::size_t>(open_next_)];
  const Place place = order_.place(issue_.epoch, issue_.batch, open_next_);
  unit.slot = open_;
  unit.entry = open_next_;
  unit.padding = place.padding;
  unit.recipe.key = order_.key(issue_.epoch, place.position);
  unit.recipe.epoch = issue_.epoch;
  unit.recipe.source_count = 1;
  unit.recipe.sources[0] = order_.index(issue_.epoch, place);
  RecordedDraw draw(order_, options_.partners, issue_.epoch, place, unit.recipe.key);
  transform_->choose(unit.recipe, draw);
  if (unit.recipe.source_count < 1 || unit.recipe.source_count > kMaxSources) {
    throw std::logic_error("a transform chose " + std::to_string(unit.recipe.source_count) +
                           " sources");
  }
  if (plan_.shares_window) issue_window(unit, place, draw);
  if (++open_next_ == open_->size) {
    open_ = nullptr;
    ++issue_.batch;
  }
  return &unit;
}

void Engine::issue_window(Unit& unit, const Place& place, const RecordedDraw& draw) {
  if (!place.padding) window_.advance(place.lane);
  unit.pending = 0;
  for (int i = 0; i < unit.recipe.source_count; ++i) {
    const std::int64_t index = unit.recipe.sources[static_cast<std::size_t>(i)];
    std::int64_t sequence = place.sequence;
    const bool known = i == 0 || draw.find(index, sequence);
    WindowEntry* entry = known ? entry_for(place, sequence, index) : nullptr;
    if (entry == nullptr) {  // an index of the transform's own, or padding of a tiny epoch
      entry = window_.loose(index);
      ++entry->holders;
      loads_.push(entry);
    }
    ++entry->holders;
    unit.sources[static_cast<std::size_t>(i)] = entry;
    if (entry->state == WindowEntry::State::Ready) continue;
    ++unit.pending;
    entry->waiting.push_back(&unit);
  }
  if (unit.pending == 0) ready_.push(&unit);
}

WindowEntry* Engine::entry_for(const Place& place, std::int64_t sequence, std::int64_t index) {
  if (!window_.covers(place.lane, sequence)) return nullptr;
  WindowEntry* entry = window_.find(place.lane, sequence);
  if (entry != nullptr) return entry;
  entry = window_.insert(place.lane, sequence, index);
  ++entry->holders;
  loads_.push(entry);
  return entry;
}

void Engine::finish(const Job& job, const std::exception_ptr& error, Lock& lock) {
  if (error && !error_) error_ = error;
  if (job.kind == Job::Kind::Hint) hinting_ = false;
  if (job.kind == Job::Kind::Load) finish_load(*job.entry, !error);
  if (job.unit != nullptr && !error) finish_unit(*job.unit, lock);
}

void Engine::finish_load(WindowEntry& entry, bool good) {
  if (good) {
    entry.state = WindowEntry::State::Ready;
    for (Unit* unit : entry.waiting) {
      if (--unit->pending == 0) ready_.push(unit);
    }
    entry.waiting.clear();
  }
  window_.release(&entry);
}

void Engine::finish_unit(Unit& unit, Lock& lock) {
  for (int i = 0; i < unit.recipe.source_count; ++i) {
    WindowEntry*& entry = unit.sources[static_cast<std::size_t>(i)];
    if (entry != nullptr) window_.release(std::exchange(entry, nullptr));
  }
  Slot* slot = unit.slot;
  if (--slot->unfinished > 0) return;
  lock.unlock();  // all its samples are done, nobody else touches it
  slot->pack(dataset_->task());
  lock.lock();
  slot->complete = true;
  if (slot == in_flight_.front()) changed_.notify_all();
}

bool Engine::hint_due() const {
  if (!source_.wants_hints() || hinting_ || issue_.batch >= order_.batches()) return false;
  if (hinted_.epoch != issue_.epoch || hinted_.sample < issued_samples()) return true;
  return hinted_.sample < order_.samples() &&
         hinted_.sample < issued_samples() + kHintAhead - kHintChunk;
}

std::int64_t Engine::issued_samples() const {
  return issue_.batch * plan_.batch_size + (open_ != nullptr ? open_next_ : 0);
}

void Engine::next_hints(std::vector<std::int64_t>& indices) {
  if (hinted_.epoch != issue_.epoch || hinted_.sample < issued_samples()) {
    hinted_ = {issue_.epoch, issued_samples()};
  }
  indices.clear();
  const std::int64_t end = std::min(hinted_.sample + kHintChunk, order_.samples());
  for (; hinted_.sample < end; ++hinted_.sample) {
    const Place place = order_.place(hinted_.epoch, hinted_.sample / plan_.batch_size,
                                     hinted_.sample % plan_.batch_size);
    indices.push_back(order_.index(hinted_.epoch, place));
  }
}

void Engine::wake() {
  if (!workers_ || idle_workers() == 0 || !has_work()) return;
  note_time();
  ++called_;
  workers_->enqueue(&Engine::work_entry, this);
}

}  // namespace brim::detail
