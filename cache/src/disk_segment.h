#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "brim/cache/key.h"
#include "posix_file.h"

namespace brim::detail {

inline constexpr std::uint32_t kSegmentVersion = 2;
inline constexpr char kSegmentMagic[8] = {'B', 'R', 'I', 'M', 'S', 'E', 'G', '\n'};
/// Values lie at multiples of this; a record counts them in these units.
inline constexpr std::uint64_t kSegmentUnit = 8;
inline constexpr std::uint64_t kLargestSegment = kSegmentUnit << 32;

/// First 64 bytes of a segment. Magic, tag, version and checksum keep their places in every
/// version, so that an old program can tell a newer file from a damaged one.
struct SegmentHeader {
  char magic[8];
  std::uint32_t endian;
  std::uint32_t version;
  std::uint64_t segment_bytes;
  std::uint64_t id;
  std::uint64_t reserved[3];
  std::uint64_t checksum;  ///< XXH3-64 of the bytes before it
};
static_assert(sizeof(SegmentHeader) == 64);

/// One value of a segment; record i lies at segment_bytes - 36 * (i + 1). Small, because it is what
/// a small value costs; halves of 64-bit numbers are low, high.
struct SegmentRecord {
  std::uint32_t key[4];             ///< low, then high
  std::uint32_t unit;               ///< offset / kSegmentUnit
  std::uint32_t length;             ///< bytes
  std::uint32_t value_checksum[2];  ///< bound to key and length
  std::uint32_t record_checksum;    ///< low half of XXH3-64 of the bytes before it

  static SegmentRecord make(const CacheKey& key, std::uint64_t offset, std::uint64_t length,
                            std::uint64_t value_checksum);
  CacheKey cache_key() const { return {join(key[2], key[3]), join(key[0], key[1])}; }
  std::uint64_t offset() const { return unit * kSegmentUnit; }
  std::uint64_t checksum() const { return join(value_checksum[0], value_checksum[1]); }
  bool intact() const;

 private:
  static std::uint64_t join(std::uint32_t low, std::uint32_t high) {
    return std::uint64_t{high} << 32 | low;
  }
};
static_assert(sizeof(SegmentRecord) == 36);

enum class SegmentState {
  Usable,
  Damaged,      ///< header or length are wrong: nothing in it can be trusted
  OtherFormat,  ///< intact, but of a newer version or another byte order
  Outdated,     ///< of an older version: of no use to this one
  Unreadable,   ///< gone or not permitted
};

/// One segment file: values grow upwards from the header, records downwards from the end, and a
/// value exists from the moment its record is written. One process at a time may append (it holds
/// the file's flock); everyone may read. docs/cache_format.md describes the bytes.
class DiskSegment {
 public:
  /// Asks for `bytes` more of disk under the directory's cap.
  using Allow = std::function<bool(std::int64_t bytes)>;
  using Visit = std::function<void(const SegmentRecord& record, std::uint32_t index)>;

  /// Makes a segment in `directory` that appears under its final name only when it is complete,
  /// owned by this process. Throws std::system_error.
  static std::unique_ptr<DiskSegment> create(const std::string& directory, std::uint64_t bytes);
  static std::unique_ptr<DiskSegment> open(const std::string& path, SegmentState& state);

  ~DiskSegment();

  /// Calls `visit(record, index)` for each intact record not seen before; returns how many
  /// damaged ones were passed over. A last record whose writer is not done with it, or was killed
  /// over it, is not there yet.
  std::int64_t scan(const Visit& visit);

  /// Becomes the one that appends here, after a last scan that adds to `damaged`; false while
  /// another process is, or for ever if its end is not clean.
  bool own(const Visit& visit, std::int64_t& damaged);

  struct Place {
    std::uint64_t offset;
  };
  /// Room for `length` bytes; nothing: the segment is full or `allow` refused (`refused` set).
  /// Throws std::system_error when the medium has none.
  std::optional<Place> reserve(std::uint64_t length, const Allow& allow, bool& refused);
  /// Writes the value and publishes it; returns its record index. Throws std::system_error.
  std::uint32_t write(Place place, const CacheKey& key, std::span<const std::byte> value,
                      std::uint64_t checksum);

  /// True when all of `out` was read at `offset`.
  bool read(std::uint64_t offset, std::span<std::byte> out) const;
  void read_ahead(std::uint64_t offset, std::uint64_t length) const;
  /// Marks a damaged record so that no later start sees it; nothing happens without permission.
  void forget(std::uint32_t record) const;
  void sync();
  std::int64_t allocated_bytes() const;
  const std::string& path() const { return path_; }
  std::uint64_t size() const { return segment_bytes_; }

 private:
  DiskSegment(PosixFile file, std::string path, const SegmentHeader& header);
  std::uint64_t records_begin(std::uint64_t count) const {
    return segment_bytes_ - count * sizeof(SegmentRecord);
  }
  std::int64_t scan_locked(const Visit& visit);
  bool fits(const SegmentRecord& record) const;
  /// Of a last record that is not intact; reads it again when no process is writing.
  bool unfinished(SegmentRecord& record, std::uint64_t number) const;
  bool ends_clean() const;
  bool allocate(std::uint64_t data_end, std::uint64_t records, const Allow& allow);
  bool preallocate(std::uint64_t from, std::uint64_t length) const;
  void trim();
  bool trim_locked();

  PosixFile file_;
  std::string path_;
  std::uint64_t segment_bytes_;
  std::mutex mutex_;  ///< what follows
  bool owned_ = false;
  int owner_pid_ = 0;
  std::uint64_t data_end_ = sizeof(SegmentHeader);
  std::uint64_t data_allocated_ = 0;
  std::uint64_t records_ = 0;           ///< written or seen
  std::uint64_t records_reserved_ = 0;  ///< written or promised
  std::uint64_t records_allocated_ = 0;
  std::atomic<bool> dirty_{false};
};

}  // namespace brim::detail
