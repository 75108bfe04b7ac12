#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "loader_source.h"

namespace brim::detail {

struct Unit;

/// One decoded sample that several units share.
struct WindowEntry {
  enum class State : std::uint8_t { Queued, Loading, Ready };
  State state = State::Queued;
  int holders = 0;  ///< the window, the load queue and every unit that uses it
  std::int64_t index = 0;
  LoadedImage loaded;
  std::vector<Unit*> waiting;  ///< units to be told when it is ready, once per use
};

/// The last samples of each lane, decoded at most once. Guarded by the engine's mutex.
class Window {
 public:
  Window(std::int64_t lanes, int width);

  /// The next sample taken from `lane` will be `sequence`; what stays inside the window is kept.
  void seek(std::int64_t lane, std::int64_t sequence);
  std::int64_t next(std::int64_t lane) const;
  /// Takes the next sample of `lane` into the window; the oldest leaves it.
  void advance(std::int64_t lane);
  /// Entry of `sequence`; null where it is not held or outside the window.
  WindowEntry* find(std::int64_t lane, std::int64_t sequence) const;
  bool covers(std::int64_t lane, std::int64_t sequence) const;
  /// A fresh entry held by the window at `sequence`.
  WindowEntry* insert(std::int64_t lane, std::int64_t sequence, std::int64_t index);
  /// A fresh entry that the window does not hold.
  WindowEntry* loose(std::int64_t index);
  void release(WindowEntry* entry);
  /// Forgets every entry whose pixels are not there.
  void drop_unfinished();
  std::size_t entries() const { return entries_.size(); }

 private:
  struct Lane {
    std::int64_t next = 0;
    std::vector<WindowEntry*> ring;
  };
  WindowEntry*& at(std::int64_t lane, std::int64_t sequence);

  std::int64_t width_;
  std::vector<Lane> lanes_;
  std::vector<std::unique_ptr<WindowEntry>> entries_;
  std::vector<WindowEntry*> free_;
};

}  // namespace brim::detail
