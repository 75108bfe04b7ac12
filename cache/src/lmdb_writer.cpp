#include "lmdb_writer.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "posix_file.h"

namespace brim::detail {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t thread_time_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

/// Row, pages of the tree and rounding, for the cap's estimate before a commit.
constexpr auto kOverheadPerItem = static_cast<std::int64_t>(sizeof(LmdbRow));
constexpr std::int64_t kOverheadPerBatch = 64 << 10;
/// After a failed commit puts are refused for this long instead of being taken and lost.
constexpr auto kRetryAfter = std::chrono::seconds(1);

MDB_val value_of(const void* data, std::size_t size) {
  return {size, const_cast<void*>(data)};
}

int put_record(const LmdbEnvironment::Write& write, const LmdbBlockKey& name, MDB_val& data,
               unsigned flags) {
  MDB_val key = value_of(name.data(), name.size());
  return mdb_put(write.transaction, write.database, &key, &data, flags);
}

/// Marks the row as dropped when it is still the one that was seen.
int drop_row(const LmdbEnvironment::Write& write, const CacheKey& key, const LmdbPlace& place) {
  const LmdbBlockKey name = lmdb_block_key(kDirectoryLetter, place.block);
  MDB_val wanted = value_of(name.data(), name.size());
  MDB_val held{};
  if (mdb_get(write.transaction, write.database, &wanted, &held) != 0) return 0;
  std::vector<LmdbRow> rows(held.mv_size / sizeof(LmdbRow));
  if (rows.empty()) return 0;
  std::memcpy(rows.data(), held.mv_data, rows.size() * sizeof(LmdbRow));
  for (LmdbRow& row : rows)
    if (row.key == key && row.length == place.length && row.checksum() == place.checksum)
      row.key = {};
  MDB_val changed = value_of(rows.data(), rows.size() * sizeof(LmdbRow));
  return put_record(write, name, changed, 0);
}

}  // namespace

void LmdbWriter::Batch::clear(std::size_t keep_bytes) {
  if (bytes.capacity() > keep_bytes) std::vector<std::byte>().swap(bytes);
  bytes.clear();
  items.clear();
  removals.clear();
  index = {};
}

LmdbWriter::LmdbWriter(LmdbEnvironment& environment, const LmdbStoreOptions& options, Lost lost)
    : environment_(environment), options_(options), lost_(std::move(lost)) {
  // Two batches and LMDB's own copy of the one that is written.
  if (options_.budget != nullptr)
    reservation_ = options_.budget->reserve_or_throw("lmdb writer", 3 * options_.batch_bytes);
  thread_ = std::thread([this] { run(); });
}

LmdbWriter::~LmdbWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

/// Under mutex_: the value does not make the batch larger than it may be.
bool LmdbWriter::fits(std::size_t size) {
  return filling_.items.empty() ||
         filling_.bytes.size() + size <= static_cast<std::size_t>(options_.batch_bytes);
}

PutResult LmdbWriter::put(const CacheKey& key, std::span<const std::byte> value) {
  const std::uint64_t checksum = value_checksum(key, value);
  std::unique_lock lock(mutex_);
  while (!fits(value.size())) {
    if (stop_) return PutResult::Failed;
    if (options_.when_busy == WhenBusy::Drop) return PutResult::Full;
    wake_.notify_one();
    done_.wait(lock);
  }
  if (Clock::now() < failed_until_) return PutResult::Failed;
  // In this order: what has left the writer is in the index.
  if (find(filling_, key) != nullptr || find(writing_, key) != nullptr ||
      environment_.index().find(key))
    return PutResult::AlreadyThere;
  const auto pending =
      static_cast<std::int64_t>(filling_.bytes.size() + writing_.bytes.size() + value.size());
  const auto items = static_cast<std::int64_t>(filling_.items.size() + writing_.items.size() + 1);
  if (environment_.used_bytes() + pending + items * kOverheadPerItem + kOverheadPerBatch >
      options_.byte_limit)
    return PutResult::Full;
  if (filling_.empty()) filling_.since = Clock::now();
  filling_.index.insert(key, static_cast<std::uint32_t>(filling_.items.size()));
  filling_.items.push_back({key, filling_.bytes.size(), value.size(), checksum});
  filling_.bytes.insert(filling_.bytes.end(), value.begin(), value.end());
  if (filling_.items.size() == 1 || due(filling_)) wake_.notify_one();
  return PutResult::Stored;
}

const LmdbWriter::Item* LmdbWriter::find(const Batch& batch, const CacheKey& key) const {
  const std::uint32_t* at = batch.index.find(key);
  return at == nullptr ? nullptr : &batch.items[*at];
}

bool LmdbWriter::get_pending(const CacheKey& key, Blob& blob) {
  const std::lock_guard lock(mutex_);
  for (const Batch* batch : {&filling_, &writing_}) {
    const Item* item = find(*batch, key);
    if (item == nullptr) continue;
    const std::span<std::byte> bytes = blob.room(item->length);
    if (item->length > 0)
      std::memcpy(bytes.data(), batch->bytes.data() + item->offset, item->length);
    blob.bytes = bytes;
    blob.owner.reset();
    return true;
  }
  return false;
}

bool LmdbWriter::is_pending(const CacheKey& key) {
  const std::lock_guard lock(mutex_);
  return find(filling_, key) != nullptr || find(writing_, key) != nullptr;
}

void LmdbWriter::remove(const CacheKey& key, const LmdbPlace& place) {
  const std::lock_guard lock(mutex_);
  if (filling_.empty()) filling_.since = Clock::now();
  filling_.removals.push_back({key, place});
  wake_.notify_one();
}

std::int64_t LmdbWriter::pending_count() {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(filling_.items.size() + writing_.items.size());
}

void LmdbWriter::flush() {
  std::unique_lock lock(mutex_);
  const std::uint64_t ticket = ++flush_wanted_;
  wake_.notify_one();
  done_.wait(lock, [&] { return flush_done_ >= ticket || stop_; });
}

/// Under mutex_: time to write what has been collected.
bool LmdbWriter::due(const Batch& batch) const {
  if (batch.empty()) return false;
  return batch.bytes.size() * 2 >= static_cast<std::size_t>(options_.batch_bytes) ||
         Clock::now() >= batch.since + std::chrono::milliseconds(options_.batch_delay_ms);
}

void LmdbWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto asked = [this] { return stop_ || flush_wanted_ > flush_done_ || due(filling_); };
    if (filling_.empty()) {
      wake_.wait(lock, [&] { return asked() || !filling_.empty(); });
    } else {
      wake_.wait_until(lock, filling_.since + std::chrono::milliseconds(options_.batch_delay_ms),
                       asked);
    }
    if (!asked()) continue;
    const std::uint64_t ticket = flush_wanted_;
    if (!filling_.empty()) {
      std::swap(filling_, writing_);
      lock.unlock();
      done_.notify_all();  // there is room again
      write(writing_);
      worked_ns_.store(thread_time_ns(), std::memory_order_relaxed);
      lock.lock();
      writing_.clear(static_cast<std::size_t>(2 * options_.batch_bytes));
    }
    flush_done_ = std::max(flush_done_, ticket);
    done_.notify_all();
    if (stop_ && filling_.empty()) return;
  }
}

void LmdbWriter::write(Batch& batch) {
  const std::int64_t map_limit = options_.byte_limit + options_.byte_limit / 4 + (16 << 20);
  int code = environment_.update(
      map_limit, [&](const LmdbEnvironment::Write& write) { return write_in(write, batch); });
  if (code == 0) return;
  // LMDB calls a write that was cut short by a full disk an input/output error.
  const auto wanted = static_cast<std::int64_t>(batch.bytes.size());
  if (code == EIO && free_disk_bytes(options_.directory) < wanted) code = ENOSPC;
  const std::string why = "cannot write to the LMDB cache: " + lmdb_message(code);
  lost_(static_cast<std::int64_t>(batch.items.size()), why);
  const std::lock_guard lock(mutex_);
  failed_until_ = Clock::now() + kRetryAfter;
}

/// One transaction: removals, then one block with the values that are not there yet (another
/// process may have been faster) and its directory.
int LmdbWriter::write_in(const LmdbEnvironment::Write& write, const Batch& batch) {
  for (const Removal& removal : batch.removals)
    if (const int code = drop_row(write, removal.key, removal.place); code != 0) return code;
  std::vector<const Item*> wanted;
  std::vector<LmdbRow> rows;
  std::uint64_t total = 0;
  for (const Item& item : batch.items) {
    if (environment_.index().find(item.key)) continue;
    wanted.push_back(&item);
    rows.push_back({.key = item.key,
                    .offset = static_cast<std::uint32_t>(total),
                    .length = static_cast<std::uint32_t>(item.length),
                    .value_checksum = {static_cast<std::uint32_t>(item.checksum),
                                       static_cast<std::uint32_t>(item.checksum >> 32)}});
    total += item.length;
  }
  if (wanted.empty()) return 0;
  // Small records lie within pages of the tree, which move: a block never is one.
  MDB_val bytes{std::max(total, least_block_bytes()), nullptr};
  int code = put_record(write, lmdb_block_key(kBlockLetter, write.block), bytes,
                        MDB_RESERVE | MDB_NOOVERWRITE);
  if (code != 0) return code;
  auto* to = static_cast<std::byte*>(bytes.mv_data);
  for (const Item* item : wanted) {
    if (item->length == 0) continue;
    std::memcpy(to, batch.bytes.data() + item->offset, item->length);
    to += item->length;
  }
  std::memset(to, 0, bytes.mv_size - total);
  MDB_val directory = value_of(rows.data(), rows.size() * sizeof(LmdbRow));
  return put_record(write, lmdb_block_key(kDirectoryLetter, write.block), directory,
                    MDB_NOOVERWRITE);
}

}  // namespace brim::detail
