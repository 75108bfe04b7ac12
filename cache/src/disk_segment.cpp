#include "disk_segment.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "entry.h"

namespace brim::detail {
namespace {

constexpr std::uint64_t kRecord = sizeof(SegmentRecord);
constexpr std::uint64_t kPage = 4096;

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

std::uint64_t checksum_of(const SegmentHeader& header) {
  return checksum64(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8));
}

std::uint32_t checksum_of(const SegmentRecord& record) {
  const auto bytes = std::as_bytes(std::span(&record, 1));
  return static_cast<std::uint32_t>(
      checksum64(bytes.first(offsetof(SegmentRecord, record_checksum))));
}

bool all_bytes(std::span<const std::byte> bytes, unsigned char value) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [value](std::byte byte) { return byte == std::byte{value}; });
}

bool all_bytes(const SegmentRecord& record, unsigned char value) {
  return all_bytes(std::as_bytes(std::span(&record, 1)), value);
}

/// Whether the record at `offset` is one that its writer was killed in the middle of: the kernel
/// copies a write page by page and stops between two of them.
bool torn_between_pages(const SegmentRecord& record, std::uint64_t offset) {
  const std::uint64_t first = kPage - offset % kPage;
  if (first >= kRecord) return false;
  const auto bytes = std::as_bytes(std::span(&record, 1));
  return all_bytes(bytes.first(first), 0) != all_bytes(bytes.subspan(first), 0);
}

std::uint64_t random_id() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

SegmentState judge(const SegmentHeader& header, std::uint64_t file_size) {
  if (std::memcmp(header.magic, kSegmentMagic, sizeof kSegmentMagic) != 0)
    return SegmentState::Damaged;
  const std::uint64_t sum = checksum_of(header);
  if (header.checksum != sum && header.checksum != __builtin_bswap64(sum))
    return SegmentState::Damaged;
  if (header.endian == kEndianTag && header.version < kSegmentVersion)
    return SegmentState::Outdated;
  if (header.endian != kEndianTag || header.version != kSegmentVersion)
    return SegmentState::OtherFormat;
  if (header.segment_bytes != file_size || header.checksum != sum) return SegmentState::Damaged;
  return SegmentState::Usable;
}

}  // namespace

SegmentRecord SegmentRecord::make(const CacheKey& key, std::uint64_t offset, std::uint64_t length,
                                  std::uint64_t value_checksum) {
  const auto low = [](std::uint64_t word) { return static_cast<std::uint32_t>(word); };
  const auto high = [](std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); };
  SegmentRecord record{
      .key = {low(key.low), high(key.low), low(key.high), high(key.high)},
      .unit = low(offset / kSegmentUnit),
      .length = low(length),
      .value_checksum = {low(value_checksum), high(value_checksum)},
      .record_checksum = 0,
  };
  record.record_checksum = checksum_of(record);
  return record;
}

bool SegmentRecord::intact() const {
  return record_checksum == checksum_of(*this);
}

DiskSegment::DiskSegment(PosixFile file, std::string path, const SegmentHeader& header)
    : file_(std::move(file)), path_(std::move(path)), segment_bytes_(header.segment_bytes) {
  // Values are read whole at random places: the kernel's read-ahead would only read too much.
  ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_RANDOM);
}

DiskSegment::~DiskSegment() {
  trim();
}

std::unique_ptr<DiskSegment> DiskSegment::create(const std::string& directory,
                                                 std::uint64_t bytes) {
  SegmentHeader header{};
  std::memcpy(header.magic, kSegmentMagic, sizeof kSegmentMagic);
  header.endian = kEndianTag;
  header.version = kSegmentVersion;
  header.segment_bytes = bytes;
  header.id = random_id();
  header.checksum = checksum_of(header);
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "segment-%016llx.brim",
                static_cast<unsigned long long>(header.id));
  const std::string path = directory + "/" + name.data();
  const std::string temporary = directory + "/new-" + name.data();
  PosixFile file = open_file(temporary, O_RDWR | O_CREAT | O_EXCL);
  if (!file) throw_errno("cannot make " + temporary);
  try {
    if (!lock_file(file, LockKind::Exclusive, 0)) throw_errno("cannot lock " + temporary);
    file.write_at(0, bytes_of(header), temporary);
    if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
      throw_errno("cannot size " + temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw_errno("cannot name " + path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  std::unique_ptr<DiskSegment> segment(new DiskSegment(std::move(file), path, header));
  segment->owned_ = true;
  segment->owner_pid_ = ::getpid();
  segment->dirty_ = true;
  return segment;
}

std::unique_ptr<DiskSegment> DiskSegment::open(const std::string& path, SegmentState& state) {
  state = SegmentState::Unreadable;
  PosixFile file = open_file(path, O_RDWR);
  if (!file && (errno == EACCES || errno == EROFS || errno == EPERM))
    file = open_file(path, O_RDONLY);
  if (!file) return nullptr;
  SegmentHeader header{};
  const bool whole = file.read_at(0, bytes_of(header));
  state = whole ? judge(header, file.size()) : SegmentState::Damaged;
  if (state == SegmentState::Usable)
    return std::unique_ptr<DiskSegment>(new DiskSegment(std::move(file), path, header));
  // A damaged or outdated file that no process holds is of no use to anybody.
  const bool useless = state == SegmentState::Damaged || state == SegmentState::Outdated;
  if (useless && lock_file(file, LockKind::Exclusive, 0)) ::unlink(path.c_str());
  return nullptr;
}

std::int64_t DiskSegment::scan(const Visit& visit) {
  const std::lock_guard lock(mutex_);
  return scan_locked(visit);
}

std::int64_t DiskSegment::scan_locked(const Visit& visit) {
  std::int64_t damaged = 0;
  std::vector<SegmentRecord> block(64);
  while (true) {
    const std::uint64_t most = (segment_bytes_ - data_end_) / kRecord;
    const std::uint64_t room = most - std::min(most, records_);
    const std::uint64_t count = std::min<std::uint64_t>(room, block.size());
    const std::span<SegmentRecord> part = std::span(block).last(count);
    if (count == 0 || !read(records_begin(records_ + count), std::as_writable_bytes(part))) break;
    std::uint64_t seen = 0;
    for (; seen < count; ++seen) {
      SegmentRecord& record = part[count - 1 - seen];
      if (all_bytes(record, 0)) break;
      const bool last = seen + 1 == count || all_bytes(part[count - 2 - seen], 0);
      if (!fits(record) && last && unfinished(record, records_ + seen)) break;
      if (!fits(record)) {
        damaged += all_bytes(record, 0xFF) ? 0 : 1;
        continue;
      }
      data_end_ = std::max(data_end_, (record.offset() + record.length + kSegmentUnit - 1) /
                                          kSegmentUnit * kSegmentUnit);
      visit(record, static_cast<std::uint32_t>(records_ + seen));
    }
    records_ += seen;
    if (seen < count) break;
    block.resize(4096);  // small segments stay cheap to look at, large ones go in big strides
  }
  records_reserved_ = std::max(records_reserved_, records_);
  return damaged;
}

bool DiskSegment::fits(const SegmentRecord& record) const {
  return record.intact() && record.offset() >= sizeof(SegmentHeader) &&
         record.offset() <= segment_bytes_ && record.length <= segment_bytes_ - record.offset();
}

bool DiskSegment::unfinished(SegmentRecord& record, std::uint64_t number) const {
  if (!owned_) {
    // Without a writer the record is what it will stay; it may have been completed meanwhile.
    if (!lock_file(file_, LockKind::Shared, 0)) return true;
    const bool whole = read(records_begin(number + 1), bytes_of(record));
    unlock_file(file_);
    if (!whole || all_bytes(record, 0)) return true;
    if (fits(record)) return false;
  }
  return torn_between_pages(record, records_begin(number + 1));
}

bool DiskSegment::own(const Visit& visit, std::int64_t& damaged) {
  const std::lock_guard lock(mutex_);
  if (owned_) return true;
  const int flags = ::fcntl(file_.get(), F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) != O_RDWR) return false;
  if (!lock_file(file_, LockKind::Exclusive, 0)) return false;
  owned_ = true;
  owner_pid_ = ::getpid();
  damaged += scan_locked(visit);  // what its former owner added since it was looked at
  // What a killed process wrote and never published must not be taken for records later.
  if (!ends_clean() || !trim_locked()) {
    owned_ = false;
    unlock_file(file_);
    return false;
  }
  data_allocated_ = data_end_;
  records_allocated_ = records_reserved_ = records_;
  return true;
}

/// After a power loss records may lie beyond a hole; such a segment is read but not continued.
bool DiskSegment::ends_clean() const {
  const std::uint64_t room = (records_begin(records_) - data_end_) / kRecord;
  std::vector<SegmentRecord> beyond(std::min<std::uint64_t>(256, room));
  if (beyond.empty()) return true;
  if (!read(records_begin(records_ + beyond.size()), std::as_writable_bytes(std::span(beyond))))
    return false;
  if (torn_between_pages(beyond.back(), records_begin(records_ + 1))) beyond.pop_back();
  return std::all_of(beyond.begin(), beyond.end(),
                     [](const SegmentRecord& record) { return all_bytes(record, 0); });
}

bool DiskSegment::preallocate(std::uint64_t from, std::uint64_t length) const {
  if (length == 0) return true;
  return ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                     static_cast<off_t>(length)) == 0 ||
         errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR;
}

bool DiskSegment::allocate(std::uint64_t data_end, std::uint64_t records, const Allow& allow) {
  const std::uint64_t limit = records_begin(records);
  // Steps keep allocation rare; near the cap the exact need is asked for.
  const std::uint64_t step = std::clamp<std::uint64_t>(segment_bytes_ / 32, kPage, 8 << 20);
  for (const std::uint64_t ahead : {step, std::uint64_t{0}}) {
    const std::uint64_t data_to = std::min(limit, (data_end + ahead + kPage - 1) / kPage * kPage);
    std::uint64_t records_to =
        std::min(records + ahead / 64 / kRecord, (segment_bytes_ - data_to) / kRecord);
    records_to = std::max({records_to, records, records_allocated_});
    const std::uint64_t more_data = data_to > data_allocated_ ? data_to - data_allocated_ : 0;
    const std::uint64_t more_records = (records_to - records_allocated_) * kRecord;
    if (!allow(static_cast<std::int64_t>(more_data + more_records))) continue;
    if (!preallocate(data_allocated_, more_data) ||
        !preallocate(records_begin(records_to), more_records)) {
      if (ahead > 0 && (errno == ENOSPC || errno == EDQUOT)) continue;
      throw_errno("cannot allocate " + path_);
    }
    data_allocated_ = std::max(data_allocated_, data_to);
    records_allocated_ = records_to;
    return true;
  }
  return false;
}

std::optional<DiskSegment::Place> DiskSegment::reserve(std::uint64_t length, const Allow& allow,
                                                       bool& refused) {
  const std::lock_guard lock(mutex_);
  refused = false;
  const std::uint64_t records = records_reserved_ + 1;
  const std::uint64_t end = data_end_ + (length + kSegmentUnit - 1) / kSegmentUnit * kSegmentUnit;
  // One record of zeros always stays between values and records: it ends the list.
  if ((records + 1) * kRecord > segment_bytes_ || end > records_begin(records + 1))
    return std::nullopt;
  if (end > data_allocated_ || records > records_allocated_) {
    if (!allocate(end, records, allow)) {
      refused = true;
      return std::nullopt;
    }
  }
  const Place place{data_end_};
  data_end_ = end;
  records_reserved_ = records;
  return place;
}

std::uint32_t DiskSegment::write(Place place, const CacheKey& key, std::span<const std::byte> value,
                                 std::uint64_t checksum) {
  SegmentRecord record = SegmentRecord::make(key, place.offset, value.size(), checksum);
  try {
    file_.write_at(place.offset, value, path_);
    const std::lock_guard lock(mutex_);
    file_.write_at(records_begin(records_ + 1), bytes_of(record), path_);
    dirty_ = true;
    return static_cast<std::uint32_t>(records_++);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --records_reserved_;
    throw;
  }
}

bool DiskSegment::read(std::uint64_t offset, std::span<std::byte> out) const {
  return file_.read_at(offset, out);
}

void DiskSegment::read_ahead(std::uint64_t offset, std::uint64_t length) const {
  ::posix_fadvise(file_.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                  POSIX_FADV_WILLNEED);
}

void DiskSegment::forget(std::uint32_t record) const {
  std::array<unsigned char, kRecord> dead;
  dead.fill(0xFF);
  // Best effort: without it the entry is found damaged once more at the next start.
  [[maybe_unused]] const ssize_t written =
      ::pwrite(file_.get(), dead.data(), dead.size(),
               static_cast<off_t>(records_begin(std::uint64_t{record} + 1)));
}

void DiskSegment::sync() {
  if (dirty_.exchange(false) && ::fdatasync(file_.get()) != 0) {
    dirty_ = true;
    throw_errno("cannot sync " + path_);
  }
}

std::int64_t DiskSegment::allocated_bytes() const {
  return file_.allocated_bytes();
}

void DiskSegment::trim() {
  const std::lock_guard lock(mutex_);
  if (owned_ && owner_pid_ == ::getpid()) trim_locked();  // a forked child owns nothing
}

/// Gives back the disk between values and records, which reads as zeros from then on.
bool DiskSegment::trim_locked() {
  const std::uint64_t to = records_begin(records_);
  return data_end_ >= to ||
         ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(data_end_), static_cast<off_t>(to - data_end_)) == 0;
}

}  // namespace brim::detail
