#include "loader_window.h"

#include <algorithm>

namespace brim::detail {

Window::Window(std::int64_t lanes, int width)
    : width_(std::max(width, 2)), lanes_(static_cast<std::size_t>(lanes)) {
  for (Lane& lane : lanes_) lane.ring.assign(static_cast<std::size_t>(width_), nullptr);
}

WindowEntry*& Window::at(std::int64_t lane, std::int64_t sequence) {
  const std::int64_t place = (sequence % width_ + width_) % width_;
  return lanes_[static_cast<std::size_t>(lane)].ring[static_cast<std::size_t>(place)];
}

std::int64_t Window::next(std::int64_t lane) const {
  return lanes_[static_cast<std::size_t>(lane)].next;
}

bool Window::covers(std::int64_t lane, std::int64_t sequence) const {
  return sequence < next(lane) && sequence >= next(lane) - width_;
}

WindowEntry* Window::find(std::int64_t lane, std::int64_t sequence) const {
  return covers(lane, sequence) ? const_cast<Window*>(this)->at(lane, sequence) : nullptr;
}

void Window::seek(std::int64_t lane, std::int64_t sequence) {
  const std::int64_t old = next(lane);
  for (std::int64_t held = old - width_; held < old; ++held) {
    if (held < sequence && held >= sequence - width_) continue;
    WindowEntry*& entry = at(lane, held);
    if (entry != nullptr) release(entry);
    entry = nullptr;
  }
  lanes_[static_cast<std::size_t>(lane)].next = sequence;
}

void Window::advance(std::int64_t lane) {
  WindowEntry*& leaving = at(lane, next(lane) - width_);
  if (leaving != nullptr) release(leaving);
  leaving = nullptr;
  ++lanes_[static_cast<std::size_t>(lane)].next;
}

WindowEntry* Window::loose(std::int64_t index) {
  if (free_.empty()) {
    entries_.push_back(std::make_unique<WindowEntry>());
    entries_.back()->waiting.reserve(64);
    free_.reserve(entries_.size());
    free_.push_back(entries_.back().get());
  }
  WindowEntry* entry = free_.back();
  free_.pop_back();
  entry->state = WindowEntry::State::Queued;
  entry->holders = 0;
  entry->index = index;
  return entry;
}

WindowEntry* Window::insert(std::int64_t lane, std::int64_t sequence, std::int64_t index) {
  WindowEntry* entry = loose(index);
  entry->holders = 1;
  at(lane, sequence) = entry;
  return entry;
}

void Window::release(WindowEntry* entry) {
  if (--entry->holders > 0) return;
  entry->loaded.blob.owner.reset();
  entry->waiting.clear();
  free_.push_back(entry);
}

void Window::drop_unfinished() {
  for (Lane& lane : lanes_) {
    for (WindowEntry*& entry : lane.ring) {
      if (entry == nullptr || entry->state == WindowEntry::State::Ready) continue;
      release(entry);
      entry = nullptr;
    }
  }
}

}  // namespace brim::detail
