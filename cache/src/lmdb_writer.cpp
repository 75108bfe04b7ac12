#include "lmdb_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace brim::detail {
namespace {

using Clock = std::chrono::steady_clock;

/// Keys are hashes: a transaction rewrites about a leaf page per value, and what it frees can be
/// used again two transactions later. More values at a time would leave more free pages about.
constexpr std::size_t kMostItems = 128;
/// Tree, free list and half-filled pages per value, for the cap's estimate before a commit.
constexpr std::int64_t kOverheadPerItem = 128;
constexpr std::int64_t kOverheadPerBatch = 64 << 10;
/// After a failed commit puts are refused for this long instead of being taken and lost.
constexpr auto kRetryAfter = std::chrono::seconds(1);

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
  // In this order: what has left the writer is committed.
  if (find(filling_, key) != nullptr || find(writing_, key) != nullptr ||
      (!removes(filling_, key) && !removes(writing_, key) &&
       environment_.read(key, [](const LmdbPlace&) { return true; })))
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

bool LmdbWriter::removes(const Batch& batch, const CacheKey& key) const {
  return std::any_of(batch.removals.begin(), batch.removals.end(),
                     [&](const Removal& removal) { return removal.key == key; });
}

bool LmdbWriter::get_pending(const CacheKey& key, Blob& blob) {
  const std::lock_guard lock(mutex_);
  for (const Batch* batch : {&filling_, &writing_}) {
    const Item* item = find(*batch, key);
    if (item == nullptr) continue;
    if (blob.scratch.size() < item->length) blob.scratch.resize(item->length);
    if (item->length > 0)
      std::memcpy(blob.scratch.data(), batch->bytes.data() + item->offset, item->length);
    blob.bytes = std::span(blob.scratch).first(item->length);
    blob.owner.reset();
    return true;
  }
  return false;
}

bool LmdbWriter::is_pending(const CacheKey& key) {
  const std::lock_guard lock(mutex_);
  return find(filling_, key) != nullptr || find(writing_, key) != nullptr;
}

void LmdbWriter::remove(const CacheKey& key, const LmdbRecord& record) {
  const std::lock_guard lock(mutex_);
  if (filling_.empty()) filling_.since = Clock::now();
  filling_.removals.push_back({key, record});
  wake_.notify_one();
}

bool LmdbWriter::is_removed(const CacheKey& key) {
  const std::lock_guard lock(mutex_);
  return removes(filling_, key) || removes(writing_, key);
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
  return batch.items.size() >= kMostItems ||
         batch.bytes.size() * 2 >= static_cast<std::size_t>(options_.batch_bytes) ||
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
  const int code = environment_.update(map_limit, [&](MDB_txn* transaction, MDB_dbi database) {
    return write_in(transaction, database, batch);
  });
  if (code == 0) return;
  const std::string why = "cannot write to the LMDB cache: " + lmdb_message(code);
  lost_(static_cast<std::int64_t>(batch.items.size()), why);
  const std::lock_guard lock(mutex_);
  failed_until_ = Clock::now() + kRetryAfter;
}

/// One transaction: removals, then one block with the values that are not there yet (another
/// process may have been faster), then their records in the order of their keys.
int LmdbWriter::write_in(MDB_txn* transaction, MDB_dbi database, const Batch& batch) {
  const auto get = [&](const void* name, std::size_t size, MDB_val& value) {
    MDB_val key{size, const_cast<void*>(name)};
    return mdb_get(transaction, database, &key, &value);
  };
  MDB_val value{};
  for (const Removal& removal : batch.removals) {
    const LmdbKey name = lmdb_key(removal.key);
    if (get(name.data(), name.size(), value) != 0 || value.mv_size != sizeof(LmdbRecord) ||
        std::memcmp(value.mv_data, &removal.record, sizeof(LmdbRecord)) != 0)
      continue;
    MDB_val key{name.size(), const_cast<std::byte*>(name.data())};
    if (const int code = mdb_del(transaction, database, &key, nullptr); code != 0) return code;
  }
  std::vector<const Item*> wanted;
  std::uint64_t total = 0;
  for (const Item& item : batch.items) {
    const LmdbKey name = lmdb_key(item.key);
    const int code = get(name.data(), name.size(), value);
    if (code == 0 && value.mv_size == sizeof(LmdbRecord)) continue;
    wanted.push_back(&item);
    total += item.length;
  }
  if (wanted.empty()) return 0;

  LmdbFormat format{};
  if (int code = get(kFormatKey.data(), kFormatKey.size(), value); code != 0) return code;
  std::memcpy(&format, value.mv_data, std::min(sizeof format, value.mv_size));
  const auto put = [&](const void* name, std::size_t size, MDB_val& data, unsigned flags) {
    MDB_val key{size, const_cast<void*>(name)};
    return mdb_put(transaction, database, &key, &data, flags);
  };
  std::uint64_t number = 0;
  MDB_val place{total, nullptr};
  for (int code = MDB_KEYEXIST; code == MDB_KEYEXIST;) {  // a damaged count must cost no block
    number = format.next_block++;
    place = {total, nullptr};
    const LmdbBlockKey block = lmdb_block_key(number);
    code = put(block.data(), block.size(), place, MDB_RESERVE | MDB_NOOVERWRITE);
    if (code != 0 && code != MDB_KEYEXIST) return code;
  }
  std::vector<std::pair<LmdbKey, LmdbRecord>> records;
  std::uint64_t at = 0;
  for (const Item* item : wanted) {
    if (item->length > 0)
      std::memcpy(static_cast<std::byte*>(place.mv_data) + at, batch.bytes.data() + item->offset,
                  item->length);
    records.emplace_back(
        lmdb_key(item->key),
        LmdbRecord{.block = static_cast<std::uint32_t>(number),
                   .offset = static_cast<std::uint32_t>(at),
                   .length = static_cast<std::uint32_t>(item->length),
                   .value_checksum = {static_cast<std::uint32_t>(item->checksum),
                                      static_cast<std::uint32_t>(item->checksum >> 32)}});
    at += item->length;
  }
  std::sort(records.begin(), records.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [name, record] : records) {
    MDB_val data{sizeof record, &record};
    if (const int code = put(name.data(), name.size(), data, 0); code != 0) return code;
  }
  MDB_val data{sizeof format, &format};
  return put(kFormatKey.data(), kFormatKey.size(), data, 0);
}

}  // namespace brim::detail
