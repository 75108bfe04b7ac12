#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/stores.h"
#include "counters.h"
#include "entry.h"
#include "lmdb_environment.h"
#include "lmdb_writer.h"

namespace brim {
namespace {

using detail::LmdbEnvironment;
using detail::LmdbPlace;
using detail::LmdbWriter;

/// Share of the free space that a cache without a limit of its own may take.
constexpr double kFreeShare = 0.9;
constexpr std::uint64_t kLargestValue = std::uint64_t{1} << 30;

class LmdbStore final : public Store {
 public:
  explicit LmdbStore(const LmdbStoreOptions& options)
      : options_(options), environment_(options.directory, options.map_bytes) {
    if (options_.byte_limit <= 0)
      options_.byte_limit =
          environment_.used_bytes() +
          static_cast<std::int64_t>(
              kFreeShare * static_cast<double>(detail::free_disk_bytes(options_.directory)));
    if (environment_.rebuilt()) {
      counters_.damaged();
      counters_.failed("the cache in " + options_.directory +
                       " was damaged or of another format and has been started anew");
    }
    if (environment_.writable())
      writer_ = std::make_unique<LmdbWriter>(environment_, options_,
                                             [this](std::int64_t count, const std::string& why) {
                                               lost_.fetch_add(count);
                                               counters_.failed(why);
                                             });
    else
      counters_.failed("cannot write to " + options_.directory + ": the cache is only read");
  }

  bool foreign() const { return ::getpid() != pid_; }

  bool get(const CacheKey& key, Blob& blob) override {
    return counters_.count_lookup(!foreign() && find(key, blob));
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value, std::int64_t) override {
    if (foreign() || writer_ == nullptr) return counters_.count(PutResult::Failed);
    if (value.size() > kLargestValue) return counters_.count(PutResult::Full);
    return counters_.count(writer_->put(key, value));
  }

  bool contains(const CacheKey& key) const override {
    if (foreign()) return false;
    return environment_.index().find(key) || (writer_ != nullptr && writer_->is_pending(key)) ||
           environment_.index().find(key);
  }

  void will_need(std::span<const CacheKey> keys) override {
    if (foreign()) return;
    for (const CacheKey& key : keys)
      if (const std::optional<LmdbPlace> place = environment_.index().find(key))
        environment_.read_ahead(place->file_offset, place->length);
  }

  void flush() override {
    if (foreign() || writer_ == nullptr) return;
    writer_->flush();
    if (const int code = environment_.sync(); code != 0)
      counters_.failed("cannot sync the LMDB cache: " + detail::lmdb_message(code));
  }

  std::vector<CacheKey> keys() const override {
    if (foreign()) return {};
    if (writer_ != nullptr) writer_->flush();
    environment_.catch_up(detail::Patience::Wait);
    return environment_.index().keys();
  }

  StoreStats stats() const override {
    StoreStats stats;
    counters_.fill(stats);
    if (foreign()) return stats;
    stats.rejected += lost_.load();
    stats.entries =
        environment_.index().size() + (writer_ != nullptr ? writer_->pending_count() : 0);
    stats.bytes = environment_.used_bytes();
    stats.byte_limit = options_.byte_limit;
    return stats;
  }

  std::int64_t background_ns() const override {
    return writer_ != nullptr ? writer_->worked_ns() : 0;
  }

  std::string describe() const override {
    return "lmdb " + format_bytes(environment_.used_bytes()) + " of " +
           format_bytes(options_.byte_limit) + " in " + options_.directory;
  }

 private:
  /// The writer's values once more in the index at the end: they may have moved there meanwhile.
  bool find(const CacheKey& key, Blob& blob) {
    std::optional<LmdbPlace> place = environment_.index().find(key);
    if (!place) {
      if (writer_ != nullptr && writer_->get_pending(key, blob)) return true;
      environment_.catch_up(detail::Patience::GiveUp);
      if (!(place = environment_.index().find(key))) return false;
    }
    if (read(key, *place, blob)) return true;
    if (environment_.index().erase(key, *place)) {
      counters_.damaged();
      if (writer_ != nullptr) writer_->remove(key, *place);
    }
    return false;
  }

  bool read(const CacheKey& key, const LmdbPlace& place, Blob& blob) const {
    if (place.length > kLargestValue) return false;
    const std::span<std::byte> bytes = blob.room(place.length);
    if (!environment_.read_bytes(place.file_offset, bytes) ||
        detail::value_checksum(key, bytes) != place.checksum)
      return false;
    blob.bytes = bytes;
    blob.owner.reset();
    return true;
  }

  LmdbStoreOptions options_;
  const int pid_ = ::getpid();
  mutable LmdbEnvironment environment_;
  std::atomic<std::int64_t> lost_{0};
  detail::Counters counters_;
  std::unique_ptr<LmdbWriter> writer_;  ///< last: it ends before what it uses
};

/// Which folders this process has open: LMDB must never open one twice in a process.
class OpenFolders {
 public:
  static OpenFolders& instance() {
    static auto* folders = new OpenFolders;  // stores may end later than statics do
    return *folders;
  }

  std::shared_ptr<Store> open(const LmdbStoreOptions& options) {
    detail::make_cache_directory(options.directory);
    struct stat info {};
    if (::stat(options.directory.c_str(), &info) != 0)
      throw Error("cannot look at the cache folder", {.file = options.directory});
    const Folder folder{info.st_dev, info.st_ino};
    std::unique_lock lock(mutex_);
    if (pid_ != ::getpid()) {  // a forked child has none of its parent's open
      pid_ = ::getpid();
      open_.clear();
    }
    while (true) {
      const auto at = open_.find(folder);
      if (at == open_.end()) break;
      if (auto store = at->second.lock()) return store;
      closed_.wait(lock);  // its last user is closing it just now
    }
    auto store = std::make_unique<LmdbStore>(options);
    std::shared_ptr<Store> shared(store.release(), [this, folder](LmdbStore* old) {
      if (old->foreign()) return;  // a forked child: the environment is its parent's
      delete old;
      const std::lock_guard closing(mutex_);
      open_.erase(folder);
      closed_.notify_all();
    });
    open_.emplace(folder, shared);
    return shared;
  }

 private:
  using Folder = std::pair<dev_t, ino_t>;
  std::mutex mutex_;
  std::condition_variable closed_;
  int pid_ = ::getpid();
  std::map<Folder, std::weak_ptr<Store>> open_;
};

}  // namespace

std::shared_ptr<Store> make_lmdb_store(const LmdbStoreOptions& options) {
  return OpenFolders::instance().open(options);
}

}  // namespace brim
