#pragma once

#include <lmdb.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "lmdb_format.h"
#include "posix_file.h"

namespace brim::detail {

/// Where a value's bytes lie in the data file.
struct LmdbPlace {
  LmdbRecord record;
  std::uint64_t file_offset;
};

/// One LMDB environment of this process: opening (check, rebuild, format record), reader slots,
/// and a map that grows while others read. Only the store's writer thread may call update().
class LmdbEnvironment {
 public:
  /// Throws Error where the folder is not usable or holds a database that is not brim's.
  LmdbEnvironment(const std::string& directory, std::int64_t map_bytes);
  ~LmdbEnvironment();
  LmdbEnvironment(const LmdbEnvironment&) = delete;
  LmdbEnvironment& operator=(const LmdbEnvironment&) = delete;

  /// Looks `key` up and calls `use` while its snapshot is pinned; false: not there.
  template <class Use>
  bool read(const CacheKey& key, Use&& use) {
    Reader reader(*this);
    const std::optional<LmdbPlace> place = reader.find(key);
    return place && use(*place);
  }
  /// The same for many keys in one snapshot.
  template <class Use>
  void read_all(std::span<const CacheKey> keys, Use&& use) {
    Reader reader(*this);
    for (const CacheKey& key : keys)
      if (const std::optional<LmdbPlace> place = reader.find(key)) use(*place);
  }

  /// Runs `body` in a write transaction and commits when it returns 0; grows the map and runs it
  /// again when that was too small, up to `most_bytes`. Returns LMDB's error code.
  int update(std::int64_t most_bytes, const std::function<int(MDB_txn*, MDB_dbi)>& body);

  bool read_bytes(std::uint64_t file_offset, std::span<std::byte> out) const;
  void read_ahead(std::uint64_t file_offset, std::uint64_t length) const;
  int sync() { return mdb_env_sync(env_, 1); }
  std::int64_t used_bytes();
  std::int64_t entries();
  std::vector<CacheKey> keys();
  bool writable() const { return writable_; }
  bool rebuilt() const { return rebuilt_; }

 private:
  struct Slot {
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    MDB_txn* transaction = nullptr;
  };
  /// A read transaction for one task: a slot that is renewed and reset, never made anew.
  class Reader {
   public:
    explicit Reader(LmdbEnvironment& environment);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    std::optional<LmdbPlace> find(const CacheKey& key);
    std::int64_t entries();
    std::vector<CacheKey> keys();

   private:
    LmdbEnvironment& environment_;
    std::shared_lock<std::shared_mutex> map_lock_;
    Slot* slot_;
    bool active_ = false;
  };

  void prepare(const std::string& directory);
  void open(const std::string& directory, std::int64_t map_bytes);
  int write_format();
  void close();
  std::shared_lock<std::shared_mutex> use_map();
  int begin_read(Slot& slot);
  int resize_map(std::int64_t bytes);
  int locate_map();

  MDB_env* env_ = nullptr;
  MDB_dbi database_ = 0;
  PosixFile marker_;
  int descriptor_ = -1;
  bool writable_ = true;
  bool rebuilt_ = false;
  std::shared_mutex map_mutex_;  ///< shared: inside a transaction; exclusive: moving the map
  std::mutex gate_;              ///< lets the one who wants to move the map pass first
  std::atomic<bool> moving_{false};
  std::atomic<bool> broken_{false};  ///< the map could not be put back: nothing may be read
  const std::byte* map_ = nullptr;
  std::array<Slot, 128> slots_;
  std::atomic<int> commits_{0};
};

/// The message of an LMDB or system error code.
std::string lmdb_message(int code);

}  // namespace brim::detail
