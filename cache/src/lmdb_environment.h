#pragma once

#include <lmdb.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "lmdb_format.h"
#include "lmdb_index.h"
#include "posix_file.h"

namespace brim::detail {

/// What to do while another thread of this process is in a transaction.
enum class Patience { Wait, GiveUp };

/// One LMDB environment of this process: opening (check, rebuild, format record), transactions
/// one at a time, a map that grows, and the index of what is committed. Values are read with
/// `pread` at places that never change, outside of any transaction. Thread-safe.
class LmdbEnvironment {
 public:
  /// Throws Error where the folder is not usable or holds a database that is not brim's.
  LmdbEnvironment(const std::string& directory, std::int64_t map_bytes);
  ~LmdbEnvironment();
  LmdbEnvironment(const LmdbEnvironment&) = delete;
  LmdbEnvironment& operator=(const LmdbEnvironment&) = delete;

  LmdbIndex& index() { return index_; }
  /// Takes blocks into the index that were committed since the last time, by whomever.
  void catch_up(Patience patience);

  struct Write {
    MDB_txn* transaction;
    MDB_dbi database;
    std::uint64_t block;  ///< number of the next block
  };
  using Body = std::function<int(const Write&)>;
  /// Runs `body` in a write transaction, with all that is committed in the index, and commits
  /// when it returns 0; grows the map and runs it again when that was too small, up to
  /// `most_bytes`. What was written is in the index when it returns. Returns LMDB's error code.
  int update(std::int64_t most_bytes, const Body& body);

  bool read_bytes(std::uint64_t file_offset, std::span<std::byte> out) const;
  void read_ahead(std::uint64_t file_offset, std::uint64_t length) const;
  int sync() { return mdb_env_sync(env_, 1); }
  /// Of the data file, as of the last transaction.
  std::int64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }
  bool writable() const { return writable_; }
  bool rebuilt() const { return rebuilt_; }

 private:
  /// A block and its directory as they lie in the data file.
  struct Block {
    std::uint64_t number;
    std::uint64_t bytes_at, bytes_size;
    std::uint64_t directory_at, directory_size;
  };

  void prepare(const std::string& directory);
  void open(const std::string& directory, std::int64_t map_bytes);
  int write_format();
  void close();
  int begin_read();
  int read_blocks(MDB_txn* transaction);
  int find_blocks(MDB_txn* transaction, std::vector<Block>& found);
  void index_block(const Block& block, std::vector<LmdbRow>& rows);
  std::uint64_t free_block(MDB_txn* transaction) const;
  int finish_update();
  void note_size();
  int resize_map(std::int64_t bytes);
  int locate_map(MDB_txn* transaction);
  std::uint64_t offset_of(const void* mapped) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(mapped) - map_);
  }

  MDB_env* env_ = nullptr;
  MDB_dbi database_ = 0;
  PosixFile marker_;
  int descriptor_ = -1;
  bool writable_ = true;
  bool rebuilt_ = false;
  LmdbIndex index_;
  std::atomic<std::int64_t> used_bytes_{0};
  std::mutex mutex_;     ///< transactions of this process, and what follows
  bool broken_ = false;  ///< the map could not be put back: nothing more is looked up
  const std::byte* map_ = nullptr;
  MDB_txn* reader_ = nullptr;
  std::uint64_t next_block_ = 0;  ///< blocks before it are in the index
  std::uint64_t seen_transaction_ = 0;
  int commits_ = 0;
};

/// The message of an LMDB or system error code.
std::string lmdb_message(int code);

}  // namespace brim::detail
