#include "lmdb_environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <thread>
#include <utility>

#include "brim/cache/error.h"
#include "lmdb_check.h"

namespace brim::detail {
namespace fs = std::filesystem;
namespace {

constexpr unsigned kMostReaders = 1022;
/// Opening waits this long for another process that is checking the file.
constexpr int kMarkerTimeoutMs = 10000;
constexpr int kCommitsPerReaderCheck = 64;

MDB_val value_of(const void* data, std::size_t size) {
  return {size, const_cast<void*>(data)};
}

[[noreturn]] void fail(const std::string& what, const std::string& directory,
                       const std::string& hint) {
  throw Error(what, {.file = directory, .key = "cache.dir"}, hint);
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
  const bool ours = fs::exists(marker);
  if (!ours && fs::exists(data) && fs::file_size(data) > 0)
    fail("holds an LMDB database that is not a brim cache", directory,
         "name another folder with cache.dir");
  marker_ = open_file(marker, O_RDWR | O_CREAT);
  writable_ = static_cast<bool>(marker_) && ::access(directory.c_str(), W_OK) == 0;
  if (!marker_) marker_ = open_file(marker, O_RDONLY);
  if (!marker_)
    fail(std::string("cannot use the cache folder: ") + lmdb_message(errno), directory,
         "name a folder you may write to with cache.dir");
  if (lock_file(marker_, LockKind::Exclusive, 0)) {
    const LmdbFileState state = check_lmdb_file(data);
    const bool bad = state == LmdbFileState::Damaged || state == LmdbFileState::OtherFormat;
    if (!writable_ && state != LmdbFileState::Sound)
      fail("the cache in this read-only folder cannot be read", directory,
           "name a folder you may write to with cache.dir");
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
           "remove the folder with 'brim cache rm', or name another with cache.dir");
  };
  const auto page = static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
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
  if (code == MDB_MAP_RESIZED) {
    check(mdb_env_set_mapsize(env_, 0));
    code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &transaction);
  }
  check(code);
  code = mdb_dbi_open(transaction, nullptr, 0, &database_);
  mdb_txn_abort(transaction);
  check(code);
  if (writable_) check(write_format());
  check(locate_map());
}

int LmdbEnvironment::write_format() {
  return update(0, [](MDB_txn* transaction, MDB_dbi database) {
    MDB_val key = value_of(kFormatKey.data(), kFormatKey.size());
    LmdbFormat format{};
    std::memcpy(format.magic, kLmdbMagic, sizeof kLmdbMagic);
    format.endian = kEndianTag;
    format.version = kLmdbVersion;
    MDB_val value = value_of(&format, sizeof format);
    const int code = mdb_put(transaction, database, &key, &value, MDB_NOOVERWRITE);
    return code == MDB_KEYEXIST ? 0 : code;
  });
}

void LmdbEnvironment::close() {
  for (Slot& slot : slots_) {
    if (slot.transaction != nullptr) mdb_txn_abort(slot.transaction);
    slot.transaction = nullptr;
  }
  if (env_ != nullptr) mdb_env_close(env_);
  env_ = nullptr;
}

/// LMDB does not tell where its map is; a leaf page knows its own number.
int LmdbEnvironment::locate_map() {
  MDB_txn* transaction = nullptr;
  int code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &transaction);
  if (code != 0) return code;
  MDB_val key = value_of(kFormatKey.data(), kFormatKey.size());
  MDB_val value{};
  code = mdb_get(transaction, database_, &key, &value);
  if (code == 0) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto* start = static_cast<const std::byte*>(value.mv_data);
    start -= reinterpret_cast<std::uintptr_t>(start) % page;
    std::uint64_t number = 0;
    std::memcpy(&number, start, sizeof number);
    map_ = start - number * page;
  }
  mdb_txn_abort(transaction);
  return code;
}

std::shared_lock<std::shared_mutex> LmdbEnvironment::use_map() {
  if (moving_.load(std::memory_order_relaxed)) const std::lock_guard wait(gate_);
  return std::shared_lock(map_mutex_);
}

/// 0: to the size another process has given it.
int LmdbEnvironment::resize_map(std::int64_t bytes) {
  const std::lock_guard first(gate_);
  moving_ = true;
  const std::unique_lock alone(map_mutex_);
  moving_ = false;
  if (broken_) return MDB_PANIC;
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  if (bytes > 0) {
    if (static_cast<std::int64_t>(info.me_mapsize) >= bytes) return 0;  // done meanwhile
    // A map that was given up and cannot be replaced would be the end of the environment.
    void* probe = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) return MDB_MAP_FULL;
    ::munmap(probe, static_cast<std::size_t>(bytes));
  }
  int code = mdb_env_set_mapsize(env_, static_cast<std::size_t>(bytes));
  if (code != 0 && mdb_env_set_mapsize(env_, info.me_mapsize) != 0) broken_ = true;
  if (!broken_ && locate_map() != 0) broken_ = true;
  return broken_ ? MDB_PANIC : code;
}

int LmdbEnvironment::begin_read(Slot& slot) {
  if (slot.transaction != nullptr) return mdb_txn_renew(slot.transaction);
  int code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &slot.transaction);
  if (code == MDB_READERS_FULL) {
    int dead = 0;
    mdb_reader_check(env_, &dead);
    code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &slot.transaction);
  }
  if (code != 0) slot.transaction = nullptr;
  return code;
}

LmdbEnvironment::Reader::Reader(LmdbEnvironment& environment)
    : environment_(environment), slot_(nullptr) {
  const std::size_t start = std::hash<std::thread::id>{}(std::this_thread::get_id());
  for (std::size_t i = start; slot_ == nullptr; ++i) {
    Slot& slot = environment_.slots_[i % environment_.slots_.size()];
    if (!slot.busy.test_and_set(std::memory_order_acquire)) slot_ = &slot;
    if ((i - start) % environment_.slots_.size() == environment_.slots_.size() - 1)
      std::this_thread::yield();
  }
  for (int attempt = 0; attempt < 3 && !active_; ++attempt) {
    map_lock_ = environment_.use_map();
    if (environment_.broken_) return;
    const int code = environment_.begin_read(*slot_);
    active_ = code == 0;
    if (code != MDB_MAP_RESIZED) return;
    map_lock_.unlock();
    if (environment_.resize_map(0) != 0) return;
  }
}

LmdbEnvironment::Reader::~Reader() {
  if (active_) mdb_txn_reset(slot_->transaction);
  slot_->busy.clear(std::memory_order_release);
}

std::optional<LmdbPlace> LmdbEnvironment::Reader::find(const CacheKey& key) {
  if (!active_) return std::nullopt;
  const LmdbKey bytes = lmdb_key(key);
  MDB_val name = value_of(bytes.data(), bytes.size());
  MDB_val value{};
  if (mdb_get(slot_->transaction, environment_.database_, &name, &value) != 0 ||
      value.mv_size != sizeof(LmdbRecord))
    return std::nullopt;
  LmdbPlace place{};
  std::memcpy(&place.record, value.mv_data, sizeof place.record);
  const LmdbBlockKey block = lmdb_block_key(place.record.block);
  name = value_of(block.data(), block.size());
  const bool found = mdb_get(slot_->transaction, environment_.database_, &name, &value) == 0 &&
                     place.record.offset <= value.mv_size &&
                     place.record.length <= value.mv_size - place.record.offset;
  // A record without its bytes is reported as it is: reading it fails and it is dropped.
  place.file_offset = found
                          ? static_cast<std::uint64_t>(
                                static_cast<const std::byte*>(value.mv_data) - environment_.map_) +
                                place.record.offset
                          : UINT64_MAX >> 1;
  return place;
}

int LmdbEnvironment::update(std::int64_t most_bytes,
                            const std::function<int(MDB_txn*, MDB_dbi)>& body) {
  while (true) {
    std::shared_lock map_lock = use_map();
    if (broken_) return MDB_PANIC;
    MDB_txn* transaction = nullptr;
    int code = mdb_txn_begin(env_, nullptr, 0, &transaction);
    if (code == 0) {
      code = body(transaction, database_);
      if (code == 0)
        code = mdb_txn_commit(transaction);
      else
        mdb_txn_abort(transaction);
    }
    MDB_envinfo info{};
    mdb_env_info(env_, &info);
    if (code == 0 && ++commits_ % kCommitsPerReaderCheck != 0) return 0;
    int dead = 0;
    mdb_reader_check(env_, &dead);  // a killed reader keeps old pages from being used again
    map_lock.unlock();
    if (code == MDB_MAP_RESIZED) {
      if ((code = resize_map(0)) != 0) return code;
    } else if (code == MDB_MAP_FULL) {
      const auto now = static_cast<std::int64_t>(info.me_mapsize);
      if (most_bytes > 0 && now >= most_bytes) return code;
      if ((code = resize_map(now * 2)) != 0) return code;
    } else {
      return code;
    }
  }
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

std::int64_t LmdbEnvironment::Reader::entries() {
  MDB_stat stat{};
  const MDB_dbi database = environment_.database_;
  MDB_val key = value_of(kFormatKey.data(), kFormatKey.size());
  MDB_val value{};
  if (!active_ || mdb_stat(slot_->transaction, database, &stat) != 0 ||
      mdb_get(slot_->transaction, database, &key, &value) != 0 ||
      value.mv_size != sizeof(LmdbFormat))
    return 0;
  LmdbFormat format{};
  std::memcpy(&format, value.mv_data, sizeof format);
  // All records but the format's own and the blocks, which are numbered without gaps.
  return static_cast<std::int64_t>(stat.ms_entries) - 1 -
         static_cast<std::int64_t>(format.next_block);
}

std::vector<CacheKey> LmdbEnvironment::Reader::keys() {
  std::vector<CacheKey> all;
  MDB_cursor* cursor = nullptr;
  if (!active_ || mdb_cursor_open(slot_->transaction, environment_.database_, &cursor) != 0)
    return all;
  MDB_val key{};
  MDB_val value{};
  while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
    if (key.mv_size != sizeof(LmdbKey)) continue;
    std::uint64_t words[2];
    std::memcpy(words, key.mv_data, sizeof words);
    all.push_back({.high = big_endian(words[0]), .low = big_endian(words[1])});
  }
  mdb_cursor_close(cursor);
  return all;
}

std::vector<CacheKey> LmdbEnvironment::keys() {
  return Reader(*this).keys();
}

std::int64_t LmdbEnvironment::entries() {
  return Reader(*this).entries();
}

std::int64_t LmdbEnvironment::used_bytes() {
  const std::shared_lock map_lock = use_map();
  MDB_envinfo info{};
  if (broken_ || mdb_env_info(env_, &info) != 0) return 0;
  return static_cast<std::int64_t>(info.me_last_pgno + 1) * ::sysconf(_SC_PAGESIZE);
}

}  // namespace brim::detail
