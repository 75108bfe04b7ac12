#include "lmdb_environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/process_memory.h"
#include "lmdb_check.h"

namespace brim::detail {
namespace fs = std::filesystem;
namespace {

constexpr unsigned kMostReaders = 1022;
/// Opening waits this long for another process that is checking the file.
constexpr int kMarkerTimeoutMs = 10000;
constexpr int kCommitsPerReaderCheck = 64;

/// A map may take so much more: the larger part of a limited address space is for others.
std::int64_t most_more_map() {
  return address_space_left() / 4;
}

MDB_val value_of(const void* data, std::size_t size) {
  return {size, const_cast<void*>(data)};
}

[[noreturn]] void fail(const std::string& what, const std::string& directory,
                       const std::string& hint) {
  throw Error(what, {.file = directory, .key = "loader.cache_dir"}, hint);
}

}  // namespace

std::string lmdb_message(int code) {
  return mdb_strerror(code);
}

LmdbEnvironment::LmdbEnvironment(const std::string& directory, std::int64_t map_bytes) {
  make_cache_directory(directory);
  try {
    prepare(directory);
    open(directory, map_bytes);
  } catch (...) {
    close();
    throw;
  }
}

LmdbEnvironment::~LmdbEnvironment() {
  close();
}

/// Takes part in the folder: the first process there checks the file and rebuilds what is damaged
/// or of another format; all hold the marker's lock shared for as long as they have it open.
void LmdbEnvironment::prepare(const std::string& directory) {
  const std::string marker = directory + "/" + std::string(kMarkerName);
  const std::string data = directory + "/data.mdb";
  // In this order: another process that begins here makes the marker before the data.
  std::error_code none;
  const bool has_data = fs::exists(data, none) && fs::file_size(data, none) > 0;
  const bool ours = fs::exists(marker);
  if (!ours && has_data)
    fail("holds an LMDB database that is not a brim cache", directory,
         "name another folder with loader.cache_dir");
  marker_ = open_file(marker, O_RDWR | O_CREAT);
  writable_ = static_cast<bool>(marker_) && ::access(directory.c_str(), W_OK) == 0;
  if (!marker_) marker_ = open_file(marker, O_RDONLY);
  if (!marker_)
    fail(std::string("cannot use the cache folder: ") + lmdb_message(errno), directory,
         "name a folder you may write to with loader.cache_dir");
  if (lock_file(marker_, LockKind::Exclusive, 0)) {
    const LmdbFileState state = check_lmdb_file(data);
    const bool bad = state == LmdbFileState::Damaged || state == LmdbFileState::OtherFormat;
    if (!writable_ && state != LmdbFileState::Sound)
      fail("the cache in this read-only folder cannot be read", directory,
           "name a folder you may write to with loader.cache_dir");
    if (bad) {
      rebuilt_ = true;
      fs::remove(data);
      fs::remove(directory + "/lock.mdb");
    }
  }
  if (!lock_file(marker_, LockKind::Shared, kMarkerTimeoutMs))
    fail("another process keeps the cache locked", directory, "end that process or wait for it");
}

void LmdbEnvironment::open(const std::string& directory, std::int64_t map_bytes) {
  const auto check = [&](int code) {
    if (code != 0)
      fail("cannot open the LMDB cache: " + lmdb_message(code), directory,
           "remove the folder with 'brim cache rm', or name another with loader.cache_dir");
  };
  const auto page = static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
  map_bytes = std::min(map_bytes, most_more_map());
  check(mdb_env_create(&env_));
  check(mdb_env_set_maxreaders(env_, kMostReaders));
  check(mdb_env_set_mapsize(
      env_, static_cast<std::size_t>(std::max(map_bytes, 32 * page) / page * page)));
  unsigned flags = MDB_NORDAHEAD | MDB_NOTLS | MDB_NOMETASYNC;
  if (!writable_) flags |= MDB_RDONLY;
  // Without the right to write the lock file, a reader cannot register: the folder must be quiet.
  if (!writable_ && ::access((directory + "/lock.mdb").c_str(), W_OK) != 0) flags |= MDB_NOLOCK;
  check(mdb_env_open(env_, directory.c_str(), flags, 0644));
  check(mdb_env_get_fd(env_, &descriptor_));
  int dead = 0;
  mdb_reader_check(env_, &dead);
  MDB_txn* transaction = nullptr;
  int code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &transaction);
  while (code == MDB_MAP_RESIZED) {
    check(mdb_env_set_mapsize(env_, 0));
    code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &transaction);
  }
  check(code);
  code = mdb_dbi_open(transaction, nullptr, 0, &database_);
  mdb_txn_abort(transaction);
  check(code);
  if (writable_) check(write_format());
  const std::lock_guard lock(mutex_);
  check(begin_read());
  code = locate_map(reader_);
  if (code == 0) code = read_blocks(reader_);
  mdb_txn_reset(reader_);
  check(code);
  note_size();
}

int LmdbEnvironment::write_format() {
  MDB_txn* transaction = nullptr;
  int code = mdb_txn_begin(env_, nullptr, 0, &transaction);
  while (code == MDB_MAP_RESIZED) {  // another process makes the map grow just now
    if ((code = mdb_env_set_mapsize(env_, 0)) != 0) return code;
    code = mdb_txn_begin(env_, nullptr, 0, &transaction);
  }
  if (code != 0) return code;
  MDB_val key = value_of(kFormatKey.data(), kFormatKey.size());
  LmdbFormat format{};
  std::memcpy(format.magic, kLmdbMagic, sizeof kLmdbMagic);
  format.endian = kEndianTag;
  format.version = kLmdbVersion;
  MDB_val value = value_of(&format, sizeof format);
  code = mdb_put(transaction, database_, &key, &value, MDB_NOOVERWRITE);
  if (code == 0) return mdb_txn_commit(transaction);
  mdb_txn_abort(transaction);
  return code == MDB_KEYEXIST ? 0 : code;
}

void LmdbEnvironment::close() {
  if (reader_ != nullptr) mdb_txn_abort(reader_);
  reader_ = nullptr;
  if (env_ != nullptr) mdb_env_close(env_);
  env_ = nullptr;
}

/// LMDB does not tell where its map is; a leaf page knows its own number.
int LmdbEnvironment::locate_map(MDB_txn* transaction) {
  MDB_val key = value_of(kFormatKey.data(), kFormatKey.size());
  MDB_val value{};
  if (const int code = mdb_get(transaction, database_, &key, &value); code != 0) return code;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto* start = static_cast<const std::byte*>(value.mv_data);
  start -= reinterpret_cast<std::uintptr_t>(start) % page;
  std::uint64_t number = 0;
  std::memcpy(&number, start, sizeof number);
  map_ = start - number * page;
  return 0;
}

/// Under mutex_, outside of transactions. 0: to the size another process has given it.
int LmdbEnvironment::resize_map(std::int64_t bytes) {
  if (broken_) return MDB_PANIC;
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  if (bytes > 0) {
    if (static_cast<std::int64_t>(info.me_mapsize) >= bytes) return 0;  // done meanwhile
    if (bytes - static_cast<std::int64_t>(info.me_mapsize) > most_more_map()) return MDB_MAP_FULL;
    // A map that was given up and cannot be replaced would be the end of the environment.
    void* probe = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) return MDB_MAP_FULL;
    ::munmap(probe, static_cast<std::size_t>(bytes));
  }
  const int code = mdb_env_set_mapsize(env_, static_cast<std::size_t>(bytes));
  if (code != 0 && mdb_env_set_mapsize(env_, info.me_mapsize) != 0) broken_ = true;
  map_ = nullptr;  // found again by the next reader
  return broken_ ? MDB_PANIC : code;
}

/// Under mutex_: reader_ is active when this returns 0.
int LmdbEnvironment::begin_read() {
  int code = MDB_PANIC;
  for (int attempt = 0; attempt < 3 && !broken_; ++attempt) {
    code = reader_ != nullptr ? mdb_txn_renew(reader_)
                              : mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader_);
    if (code == 0) break;
    int dead = 0;
    if (code == MDB_READERS_FULL)
      mdb_reader_check(env_, &dead);
    else if (code != MDB_MAP_RESIZED || resize_map(0) != 0)
      break;
  }
  if (code != 0 || map_ != nullptr) return code;
  code = locate_map(reader_);
  if (code != 0) mdb_txn_reset(reader_);
  return code;
}

void LmdbEnvironment::catch_up(Patience patience) {
  std::unique_lock lock(mutex_, std::defer_lock);
  if (patience == Patience::Wait)
    lock.lock();
  else if (!lock.try_lock())
    return;
  MDB_envinfo info{};
  if (broken_ || mdb_env_info(env_, &info) != 0 || info.me_last_txnid == seen_transaction_) return;
  if (begin_read() != 0) return;
  read_blocks(reader_);
  mdb_txn_reset(reader_);
  note_size();
}

/// Under mutex_, within a transaction of which nothing is written yet.
int LmdbEnvironment::read_blocks(MDB_txn* transaction) {
  std::vector<Block> found;
  const int code = find_blocks(transaction, found);
  if (code != 0) return code;
  // Directories lie between the blocks: all of them at once, instead of one by one.
  if (found.size() > 1)
    for (const Block& block : found) read_ahead(block.directory_at, block.directory_size);
  std::vector<LmdbRow> rows;
  for (const Block& block : found) {
    index_block(block, rows);
    next_block_ = block.number + 1;
  }
  seen_transaction_ = std::max<std::uint64_t>(seen_transaction_, mdb_txn_id(transaction));
  return 0;
}

/// The blocks from next_block_ on; only pages of the tree are touched.
int LmdbEnvironment::find_blocks(MDB_txn* transaction, std::vector<Block>& found) {
  MDB_cursor* cursor = nullptr;
  if (const int code = mdb_cursor_open(transaction, database_, &cursor); code != 0) return code;
  const LmdbBlockKey first = lmdb_block_key(kDirectoryLetter, next_block_);
  MDB_val key = value_of(first.data(), first.size());
  MDB_val directory{};
  int code = mdb_cursor_get(cursor, &key, &directory, MDB_SET_RANGE);
  for (; code == 0; code = mdb_cursor_get(cursor, &key, &directory, MDB_NEXT)) {
    if (key.mv_size != first.size() || *static_cast<const char*>(key.mv_data) != kDirectoryLetter)
      break;
    std::uint64_t number = 0;
    std::memcpy(&number, static_cast<const std::byte*>(key.mv_data) + 1, sizeof number);
    number = big_endian(number);
    const LmdbBlockKey name = lmdb_block_key(kBlockLetter, number);
    MDB_val block_key = value_of(name.data(), name.size());
    MDB_val bytes{};
    if (mdb_get(transaction, database_, &block_key, &bytes) != 0 ||
        bytes.mv_size < least_block_bytes())
      continue;
    found.push_back({.number = number,
                     .bytes_at = offset_of(bytes.mv_data),
                     .bytes_size = bytes.mv_size,
                     .directory_at = offset_of(directory.mv_data),
                     .directory_size = directory.mv_size});
  }
  mdb_cursor_close(cursor);
  return code == MDB_NOTFOUND ? 0 : code;
}

/// A row that does not fit its block is passed over: its value is made anew.
void LmdbEnvironment::index_block(const Block& block, std::vector<LmdbRow>& rows) {
  rows.resize(block.directory_size / sizeof(LmdbRow));
  if (!read_bytes(block.directory_at, std::as_writable_bytes(std::span(rows)))) return;
  for (const LmdbRow& row : rows) {
    if (row.dropped() || row.offset > block.bytes_size ||
        row.length > block.bytes_size - row.offset)
      continue;
    index_.insert(row.key, {.file_offset = block.bytes_at + row.offset,
                            .checksum = row.checksum(),
                            .block = block.number,
                            .length = row.length});
  }
}

/// One past the last block, whether or not it has a directory. Within a write transaction.
std::uint64_t LmdbEnvironment::free_block(MDB_txn* transaction) const {
  std::uint64_t number = next_block_;
  MDB_cursor* cursor = nullptr;
  if (mdb_cursor_open(transaction, database_, &cursor) != 0) return number;
  char after = kBlockLetter + 1;
  MDB_val key = value_of(&after, 1);
  MDB_val value{};
  // There is a record behind the blocks: that of the format.
  if (mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE) == 0 &&
      mdb_cursor_get(cursor, &key, &value, MDB_PREV) == 0 && key.mv_size == sizeof(LmdbBlockKey) &&
      *static_cast<const char*>(key.mv_data) == kBlockLetter) {
    std::uint64_t last = 0;
    std::memcpy(&last, static_cast<const std::byte*>(key.mv_data) + 1, sizeof last);
    number = std::max(number, big_endian(last) + 1);
  }
  mdb_cursor_close(cursor);
  return number;
}

int LmdbEnvironment::update(std::int64_t most_bytes, const Body& body) {
  const std::lock_guard lock(mutex_);
  while (true) {
    // The map must be known before its records are looked at; nothing has moved in between.
    int code = begin_read();
    if (code != 0) return code;
    mdb_txn_reset(reader_);
    MDB_txn* transaction = nullptr;
    code = mdb_txn_begin(env_, nullptr, 0, &transaction);
    if (code == 0) {
      code = read_blocks(transaction);
      if (code == 0) code = body({transaction, database_, free_block(transaction)});
      if (code == 0)
        code = mdb_txn_commit(transaction);
      else
        mdb_txn_abort(transaction);
    }
    if (code == 0) return finish_update();
    int dead = 0;
    mdb_reader_check(env_, &dead);  // a killed reader keeps old pages from being used again
    MDB_envinfo info{};
    mdb_env_info(env_, &info);
    const auto now = static_cast<std::int64_t>(info.me_mapsize);
    if (code == MDB_MAP_RESIZED) {
      code = resize_map(0);
    } else if (code == MDB_MAP_FULL && (most_bytes <= 0 || now < most_bytes)) {
      code = resize_map(now * 2);
    }
    if (code != 0) return code;
  }
}

/// Under mutex_: takes what was just committed into the index.
int LmdbEnvironment::finish_update() {
  int dead = 0;
  if (++commits_ % kCommitsPerReaderCheck == 0) mdb_reader_check(env_, &dead);
  int code = begin_read();
  if (code == 0) {
    code = read_blocks(reader_);
    mdb_txn_reset(reader_);
  }
  note_size();
  return code;
}

bool LmdbEnvironment::read_bytes(std::uint64_t file_offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(descriptor_, out.data() + done, out.size() - done,
                                static_cast<off_t>(file_offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

void LmdbEnvironment::read_ahead(std::uint64_t file_offset, std::uint64_t length) const {
  ::posix_fadvise(descriptor_, static_cast<off_t>(file_offset), static_cast<off_t>(length),
                  POSIX_FADV_WILLNEED);
}

/// Under mutex_.
void LmdbEnvironment::note_size() {
  MDB_envinfo info{};
  if (broken_ || mdb_env_info(env_, &info) != 0) return;
  used_bytes_ = static_cast<std::int64_t>(info.me_last_pgno + 1) * ::sysconf(_SC_PAGESIZE);
}

}  // namespace brim::detail
