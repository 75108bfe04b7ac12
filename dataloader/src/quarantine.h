#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "brim/dataloader/loader.h"

namespace brim::detail {

/// The bad files met so far, each listed once, in memory and in a tab-separated file
/// (index, path, reason, replacement). Thread-safe. The file is only ever appended to; where it
/// cannot be written the list in memory still holds everything.
class Quarantine {
 public:
  Quarantine(std::string file, std::int64_t dataset_size, double max_bad_fraction);

  /// Only in the file: entries that others have met.
  void list(std::span<const QuarantineEntry> entries);
  bool contains(std::int64_t index) const;
  void add(const QuarantineEntry& entry);
  /// A sample was loaded (good or replaced). Throws Error when too many were bad by now.
  void count_sample();
  std::int64_t bad_count() const { return count_.load(std::memory_order_relaxed); }
  std::vector<QuarantineEntry> entries() const;

 private:
  void check_rate() const;
  void read_listed();
  void append_new(const QuarantineEntry& entry);
  void append(const QuarantineEntry& entry);

  std::string file_;
  std::int64_t dataset_size_;
  double max_bad_fraction_;
  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, std::size_t> by_index_;
  std::vector<QuarantineEntry> entries_;
  std::unordered_set<std::string> listed_;  ///< paths that stand in the file already
  std::atomic<std::int64_t> count_{0}, samples_{0};
};

}  // namespace brim::detail
