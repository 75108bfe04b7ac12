#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "brim/cache/stores.h"
#include "counters.h"
#include "disk_directory.h"
#include "disk_segment.h"
#include "entry.h"
#include "key_map.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;
using detail::DiskDirectory;
using detail::DiskSegment;
using detail::SegmentRecord;
using detail::SegmentState;

/// How often a miss may look for entries of other processes.
constexpr auto kRefreshEvery = std::chrono::seconds(1);
/// How long a refused put keeps the next ones of at least its size from trying again.
constexpr auto kRetryAfter = std::chrono::seconds(1);
/// Segments grow with the cap so that a large cache does not need thousands of open files.
constexpr std::int64_t kMostSegments = 256;
constexpr std::uint64_t kLargestValue = UINT32_MAX;
constexpr auto kLargest = static_cast<std::int64_t>(detail::kLargestSegment);

class DiskStore final : public Store {
 public:
  explicit DiskStore(const DiskStoreOptions& options)
      : directory_(options.directory, options.byte_limit),
        segment_bytes_(
            std::min(kLargest,
                     std::max<std::int64_t>({4096, options.segment_bytes / 64 * 64,
                                             directory_.byte_limit() / kMostSegments / 64 * 64}))) {
    if (!directory_.writable()) counters_.failed(directory_.why_not());
    refresh();
  }

  bool get(const CacheKey& key, Blob& blob) override {
    Entry entry;
    const bool found = find(key, entry) || (refresh_is_due() && (refresh(), find(key, entry)));
    return counters_.count_lookup(found && read(key, entry, blob));
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value, std::int64_t) override {
    return counters_.count(store(key, value));
  }

  bool contains(const CacheKey& key) const override {
    Entry entry;
    return find(key, entry);
  }

  void will_need(std::span<const CacheKey> keys) override {
    Entry entry;
    for (const CacheKey& key : keys)
      if (find(key, entry)) entry.segment->read_ahead(entry.offset, entry.length);
  }

  void flush() override {
    const std::lock_guard lock(mutex_);
    try {
      for (const auto& segment : segments_) segment->sync();
    } catch (const std::system_error& error) {
      counters_.failed(error.what());
    }
  }

  std::vector<CacheKey> keys() const override {
    std::vector<CacheKey> all;
    for (const Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      shard.map.for_each([&](const CacheKey& key, const Entry& entry) {
        if (entry.segment != nullptr) all.push_back(key);
      });
    }
    return all;
  }

  StoreStats stats() const override {
    StoreStats stats;
    counters_.fill(stats);
    stats.entries = entries_.load();
    stats.bytes = directory_.used_bytes();
    stats.byte_limit = directory_.byte_limit();
    return stats;
  }

  std::string describe() const override {
    return "disk " + format_bytes(directory_.used_bytes()) + " of " +
           format_bytes(directory_.byte_limit()) + " in " + directory_.path();
  }

 private:
  struct Entry {
    DiskSegment* segment = nullptr;  ///< null: being written
    std::uint64_t offset = 0;
    std::uint64_t checksum = 0;
    std::uint32_t length = 0;
    std::uint32_t record = 0;
  };
  struct Shard {
    mutable std::mutex mutex;
    detail::KeyMap<Entry> map;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(const CacheKey& key) const { return shards_[key.low % kShards]; }

  bool find(const CacheKey& key, Entry& entry) const {
    const Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* found = shard.map.find(key);
    if (found == nullptr || found->segment == nullptr) return false;
    entry = *found;
    return true;
  }

  bool read(const CacheKey& key, const Entry& entry, Blob& blob) {
    const std::span<std::byte> bytes = blob.room(entry.length);
    if (!entry.segment->read(entry.offset, bytes) ||
        detail::value_checksum(key, bytes) != entry.checksum) {
      drop_damaged(key, entry);
      return false;
    }
    blob.bytes = bytes;
    blob.owner.reset();
    return true;
  }

  void drop_damaged(const CacheKey& key, const Entry& entry) {
    Shard& shard = shard_of(key);
    {
      const std::lock_guard lock(shard.mutex);
      const Entry* now = shard.map.find(key);
      const bool same = now != nullptr && now->segment == entry.segment &&
                        now->record == entry.record && now->offset == entry.offset;
      if (!same) return;
      shard.map.erase(key);
    }
    entries_.fetch_sub(1);
    counters_.damaged();
    entry.segment->forget(entry.record);
  }

  PutResult store(const CacheKey& key, std::span<const std::byte> value) {
    Shard& shard = shard_of(key);
    {
      const std::lock_guard lock(shard.mutex);
      if (shard.map.find(key) != nullptr) return PutResult::AlreadyThere;
      if (!directory_.writable() || ::getpid() != pid_) return PutResult::Failed;
      if (value.size() > kLargestValue || refused_lately(value.size())) return PutResult::Full;
      shard.map.insert(key, Entry{});
    }
    Entry entry;
    PutResult result = PutResult::Failed;
    try {
      result = append(key, value, entry);
    } catch (const std::system_error& error) {
      counters_.failed(error.what());
    }
    const std::lock_guard lock(shard.mutex);
    if (result == PutResult::Stored) {
      *shard.map.find(key) = entry;
      entries_.fetch_add(1);
    } else {
      shard.map.erase(key);
    }
    return result;
  }

  PutResult append(const CacheKey& key, std::span<const std::byte> value, Entry& entry) {
    DiskSegment* segment = nullptr;
    std::optional<DiskSegment::Place> place;
    {
      const std::lock_guard lock(mutex_);
      place = find_place(value.size(), segment);
    }
    if (!place) return PutResult::Full;
    entry.segment = segment;
    entry.offset = place->offset;
    entry.checksum = detail::value_checksum(key, value);
    entry.length = static_cast<std::uint32_t>(value.size());
    entry.record = segment->write(*place, key, value, entry.checksum);
    return PutResult::Stored;
  }

  /// Room in the segment that is written now, in one that another process left unfinished, or in
  /// a new one. Under mutex_.
  std::optional<DiskSegment::Place> find_place(std::uint64_t size, DiskSegment*& segment) {
    const DiskSegment::Allow allow = [this](std::int64_t bytes) {
      const DiskDirectory::Lock lock(directory_);
      return lock && directory_.used_bytes() + bytes <= directory_.byte_limit();
    };
    bool refused = false;
    if (writer_ != nullptr) {
      segment = writer_;
      if (auto place = writer_->reserve(size, allow, refused)) return place;
      if (refused) return remember_refusal(size);
    }
    for (const auto& candidate : segments_) {
      if (candidate.get() == writer_ || tried_.contains(candidate.get())) continue;
      tried_.insert(candidate.get());
      std::int64_t damaged = 0;
      const bool owned = candidate->own(indexer(*candidate), damaged);
      counters_.damaged(damaged);
      if (!owned) continue;
      segment = candidate.get();
      if (auto place = candidate->reserve(size, allow, refused)) {
        writer_ = segment;
        return place;
      }
      if (refused) return remember_refusal(size);
    }
    const std::uint64_t least =
        (sizeof(detail::SegmentHeader) + 2 * sizeof(SegmentRecord) + size + 127) / 64 * 64;
    if (static_cast<std::int64_t>(least) > directory_.byte_limit()) return remember_refusal(size);
    {
      const DiskDirectory::Lock lock(directory_);
      if (!lock) return remember_refusal(size);
      const std::int64_t left = directory_.byte_limit() - directory_.used_bytes();
      if (static_cast<std::int64_t>(least) > left) return remember_refusal(size);
      segments_.push_back(DiskSegment::create(
          directory_.path(), std::max(least, static_cast<std::uint64_t>(segment_bytes_))));
    }
    known_.insert(segments_.back()->path());
    segment = writer_ = segments_.back().get();
    auto place = writer_->reserve(size, allow, refused);
    return place ? place : remember_refusal(size);
  }

  std::optional<DiskSegment::Place> remember_refusal(std::uint64_t size) {
    refused_size_.store(size);
    refused_until_.store((Clock::now() + kRetryAfter).time_since_epoch().count());
    return std::nullopt;
  }

  bool refused_lately(std::uint64_t size) const {
    return size >= refused_size_.load() &&
           Clock::now().time_since_epoch().count() < refused_until_.load();
  }

  bool refresh_is_due() {
    Clock::rep due = refresh_due_.load(std::memory_order_relaxed);
    const Clock::time_point now = Clock::now();
    return now.time_since_epoch().count() >= due &&
           refresh_due_.compare_exchange_strong(due,
                                                (now + kRefreshEvery).time_since_epoch().count());
  }

  /// Takes in segments and entries that appeared since the last time.
  void refresh() {
    const std::lock_guard lock(mutex_);
    for (const std::string& path : directory_.segment_paths()) {
      if (!known_.insert(path).second) continue;
      SegmentState state = SegmentState::Unreadable;
      if (auto segment = DiskSegment::open(path, state)) {
        segments_.push_back(std::move(segment));
      } else if (state == SegmentState::Damaged) {
        counters_.damaged();
      } else if (state == SegmentState::OtherFormat) {
        counters_.failed(path + " was written by another version or byte order: left unused");
      }
    }
    for (const auto& segment : segments_)
      if (segment.get() != writer_) counters_.damaged(segment->scan(indexer(*segment)));
    refresh_due_.store((Clock::now() + kRefreshEvery).time_since_epoch().count());
  }

  /// Takes a record of `segment` into the index.
  DiskSegment::Visit indexer(DiskSegment& segment) {
    return [this, &segment](const SegmentRecord& record, std::uint32_t number) {
      const Entry entry{.segment = &segment,
                        .offset = record.offset(),
                        .checksum = record.checksum(),
                        .length = record.length,
                        .record = number};
      const CacheKey key = record.cache_key();
      Shard& shard = shard_of(key);
      const std::lock_guard lock(shard.mutex);
      if (shard.map.insert(key, entry)) entries_.fetch_add(1);
    };
  }

  DiskDirectory directory_;
  const std::int64_t segment_bytes_;
  const int pid_ = ::getpid();
  mutable std::array<Shard, kShards> shards_;
  std::mutex mutex_;  ///< the list of segments and the choice of the one to write
  std::vector<std::unique_ptr<DiskSegment>> segments_;
  std::set<std::string> known_;
  std::set<const DiskSegment*> tried_;
  DiskSegment* writer_ = nullptr;
  std::atomic<Clock::rep> refresh_due_{0};
  std::atomic<std::uint64_t> refused_size_{0};
  std::atomic<Clock::rep> refused_until_{0};
  std::atomic<std::int64_t> entries_{0};
  detail::Counters counters_;
};

}  // namespace

std::shared_ptr<Store> make_disk_store(const DiskStoreOptions& options) {
  return std::make_shared<DiskStore>(options);
}

}  // namespace brim
