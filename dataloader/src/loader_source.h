#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brim/cache/store.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/decode.h"
#include "brim/dataloader/loader_options.h"
#include "brim/dataloader/transform.h"
#include "decode_rewrite.h"
#include "fill_pacer.h"
#include "quarantine.h"
#include "statistics_recorder.h"

namespace brim::detail {

/// Pixels of one dataset sample: decoded here, or a look at what a cache holds.
struct LoadedImage {
  ImageView view{};
  DecodedInfo info{};
  std::int64_t index = 0;  ///< the sample shown; another than asked for when that one is bad
  bool replaced = false;
  Image image;
  Blob blob;
};

/// Asks the transform which part of a source it will read.
struct RegionQuery {
  const Transform* transform = nullptr;
  const Recipe* recipe = nullptr;
  int which = 0;
};

/// Reused working memory of one thread that loads.
struct LoadScratch {
  explicit LoadScratch(const DecodeLimits& limits) : decoder(limits) {}
  Decoder decoder;
  JpegRewriter rewriter;
  RecordScratch record;
  Blob blob;
  std::vector<std::byte> file;
  std::string path;
  WorkerRecorder recorder;
};

/// Brings a dataset sample's pixels to memory: from the cache, else from its bytes (which then go
/// to the cache). A sample that cannot be read is put in quarantine and another takes its place,
/// chosen by the seed alone. Shared by all workers.
class SourceLoader {
 public:
  SourceLoader(const Dataset& dataset, const Transform& transform, const LoaderOptions& options,
               Quarantine& quarantine);

  /// Throws Error when too many samples are bad; whatever is no fault of the data passes through.
  void load(std::int64_t index, const RegionQuery& region, LoadScratch& scratch, LoadedImage& out);
  /// Cache keys of `indices`, told to the store as needed soon.
  void will_need(const std::vector<std::int64_t>& indices, RecordScratch& scratch,
                 std::vector<CacheKey>& keys) const;
  bool wants_hints() const { return cache_ != nullptr; }
  bool uses_regions() const { return uses_regions_; }
  void next_epoch() { pacer_.next_epoch(); }
  /// Workers had nothing to do for `ns`, summed over them: time in which the cache may be filled.
  void waited(std::int64_t ns) { pacer_.waited(ns); }

 private:
  void load_one(std::int64_t index, const RegionQuery& region, LoadScratch& scratch,
                LoadedImage& out);
  bool from_decoded_cache(const CacheKey& key, LoadScratch& scratch, LoadedImage& out);
  void decode(const Record& record, std::span<const std::byte> bytes, const RegionQuery& region,
              LoadScratch& scratch, LoadedImage& out);
  std::span<const std::byte> encoded(const Record& record, LoadScratch& scratch);
  void offer_decoded(const CacheKey& key, std::int64_t cost_ns, LoadScratch& scratch,
                     LoadedImage& image);
  void offer(const CacheKey& key, std::span<const std::byte> value, std::int64_t cost_ns,
             WorkerRecorder& recorder);
  bool worth_offering();
  CacheKey key_of(const Record& record) const;
  bool cacheable(const Record& record) const;
  std::int64_t replacement(std::int64_t index, std::uint64_t attempt) const;

  const Dataset& dataset_;
  const DecodeRequest request_;
  const std::uint64_t seed_;
  const std::shared_ptr<Store> cache_;
  const CacheContent content_;
  const std::string recipe_;
  Quarantine& quarantine_;
  bool uses_regions_ = false;
  std::atomic<std::int64_t> skip_offers_{0};
  FillPacer pacer_;
};

}  // namespace brim::detail
