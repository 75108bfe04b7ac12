#include "loader_source.h"

#include <cstring>
#include <functional>

#include "brim/dataloader/byte_source.h"
#include "brim/dataloader/cache_choice.h"
#include "brim/dataloader/random.h"

namespace brim::detail {
namespace {

constexpr std::uint64_t kAttempts = 100;  ///< other samples tried in place of a bad one
constexpr std::int64_t kOffersSkippedWhenFull = 64;

/// Precedes the pixels in a cached value; 64 bytes so that the pixels keep the value's alignment.
struct DecodedHeader {
  static constexpr std::uint64_t kMagic = 0x3130584950524d42ull;  // "BMRPIX01", little endian
  std::uint64_t magic = kMagic;
  std::int32_t width = 0, height = 0;
  std::int32_t original_width = 0, original_height = 0;
  std::int32_t full_width = 0, full_height = 0;
  std::int32_t reserved[8] = {};
};
static_assert(sizeof(DecodedHeader) == 64);

std::span<const std::byte> read(const Record& record, LoadScratch& scratch) {
  scratch.path.assign(record.source.path);
  return read_bytes(record, scratch.path, scratch.file);
}

bool asks_for_regions(const Transform& transform) {
  for (std::uint64_t key = 0; key < 16; ++key) {
    Recipe recipe;
    recipe.key = mix64(key);
    if (transform.region(recipe, 0, 640, 480)) return true;
  }
  return false;
}

}  // namespace

SourceLoader::SourceLoader(const Dataset& dataset, const Transform& transform,
                           const LoaderOptions& options, Quarantine& quarantine)
    : dataset_(dataset),
      request_(transform.decode_request()),
      seed_(options.seed),
      cache_(options.cache),
      content_(options.cache_content),
      recipe_(cache_recipe(transform, options)),
      quarantine_(quarantine),
      uses_regions_(asks_for_regions(transform)),
      pacer_(options.fill_share, cache_ != nullptr ? cache_->background_ns() : 0) {}

std::int64_t SourceLoader::replacement(std::int64_t index, std::uint64_t attempt) const {
  Generator generator(mix64(mix64(seed_, static_cast<std::uint64_t>(index)), attempt),
                      Purpose::Replacement);
  return static_cast<std::int64_t>(generator.below(static_cast<std::uint64_t>(dataset_.size())));
}

void SourceLoader::load(std::int64_t index, const RegionQuery& region, LoadScratch& scratch,
                        LoadedImage& out) {
  std::vector<QuarantineEntry> found;
  for (std::uint64_t attempt = 0; attempt <= kAttempts; ++attempt) {
    const std::int64_t candidate = attempt == 0 ? index : replacement(index, attempt);
    if (quarantine_.contains(candidate)) continue;
    try {
      load_one(candidate, region, scratch, out);
      out.index = candidate;
      out.replaced = attempt > 0;
      for (QuarantineEntry& entry : found) {
        entry.replacement = candidate;
        quarantine_.add(entry);
      }
      quarantine_.count_sample();
      return;
    } catch (const DecodeError& fault) {
      found.push_back({candidate, dataset_.path(candidate), fault.message(), -1});
    }
  }
  for (const QuarantineEntry& entry : found) quarantine_.add(entry);
  quarantine_.count_sample();
  // Where it was known to be bad already, it was told why.
  const bool told = found.empty() || found.front().index != index;
  const std::string why = told ? "" : ": " + found.front().reason;
  throw Error("sample " + std::to_string(index) + " cannot be read" + why +
                  (dataset_.size() > 1 ? "; nor can those that were tried in its place" : ""),
              {.file = dataset_.path(index)}, "check the files with: brim inspect image FILE...");
}

void SourceLoader::load_one(std::int64_t index, const RegionQuery& region, LoadScratch& scratch,
                            LoadedImage& out) {
  const Record record = dataset_.record(index, scratch.record);
  out.blob.owner.reset();
  const bool caches = cacheable(record);
  if (!caches || content_ == CacheContent::Encoded) {
    const std::span<const std::byte> bytes = encoded(record, scratch);
    const std::int64_t begin = now_ns();
    decode(record, bytes, region, scratch, out);
    if (caches) pacer_.made(now_ns() - begin, false);
    return;
  }
  const CacheKey key = key_of(record);
  // One piece of memory serves what is read and what is decoded: plans count it once.
  if (out.blob.scratch.empty()) out.image.swap_memory(out.blob.scratch);
  if (from_decoded_cache(key, scratch, out)) {
    scratch.recorder.add_hit();
    return;
  }
  out.image.swap_memory(out.blob.scratch);
  scratch.recorder.add_miss();
  const bool keep = worth_offering();
  const std::int64_t begin = now_ns();
  // What is kept must serve every later recipe: all of it.
  decode(record, encoded(record, scratch), keep ? RegionQuery{} : region, scratch, out);
  const std::int64_t cost = now_ns() - begin;
  pacer_.made(cost, keep);
  if (!keep) return;
  offer_decoded(key, cost, scratch, out);
  pacer_.kept(now_ns() - begin - cost, cost, uses_regions_ && region.transform != nullptr);
}

bool SourceLoader::cacheable(const Record& record) const {
  if (cache_ == nullptr || record.encoding != Encoding::ImageFile) return false;
  return content_ == CacheContent::Decoded || record.memory.empty();
}

CacheKey SourceLoader::key_of(const Record& record) const {
  return make_cache_key(record.source, recipe_);
}

bool SourceLoader::from_decoded_cache(const CacheKey& key, LoadScratch& scratch, LoadedImage& out) {
  const StageTimer timer(scratch.recorder, Stage::Cache);
  if (!cache_->get(key, out.blob)) return false;
  DecodedHeader header;
  if (out.blob.bytes.size() < sizeof header) return false;
  std::memcpy(&header, out.blob.bytes.data(), sizeof header);
  const std::size_t pixels = std::size_t{3} * static_cast<std::size_t>(header.width) *
                             static_cast<std::size_t>(header.height);
  if (header.magic != DecodedHeader::kMagic || header.width < 1 || header.height < 1 ||
      out.blob.bytes.size() != sizeof header + pixels) {
    return false;
  }
  const auto* data = reinterpret_cast<const std::uint8_t*>(out.blob.bytes.data()) + sizeof header;
  out.view = {data, header.width, header.height, std::ptrdiff_t{3} * header.width};
  out.info = {.original_width = header.original_width,
              .original_height = header.original_height,
              .full_width = header.full_width,
              .full_height = header.full_height};
  return true;
}

std::span<const std::byte> SourceLoader::encoded(const Record& record, LoadScratch& scratch) {
  if (!record.memory.empty()) return record.memory;
  if (cache_ == nullptr || content_ != CacheContent::Encoded || !cacheable(record)) {
    const StageTimer timer(scratch.recorder, Stage::Read);
    return read(record, scratch);
  }
  const CacheKey key = key_of(record);
  {
    const StageTimer timer(scratch.recorder, Stage::Cache);
    if (cache_->get(key, scratch.blob)) {
      scratch.recorder.add_hit();
      return scratch.blob.bytes;
    }
  }
  scratch.recorder.add_miss();
  const std::int64_t begin = now_ns();
  const std::span<const std::byte> bytes = read(record, scratch);
  const std::int64_t cost = now_ns() - begin;
  scratch.recorder.add(Stage::Read, cost);
  if (worth_offering()) {
    const StageTimer timer(scratch.recorder, Stage::Cache);
    offer(key, scratch.rewriter.rewrite(bytes), cost, scratch.recorder);
    pacer_.kept(now_ns() - begin - cost, cost, false);
  }
  return bytes;
}

void SourceLoader::decode(const Record& record, std::span<const std::byte> bytes,
                          const RegionQuery& region, LoadScratch& scratch, LoadedImage& out) {
  const StageTimer timer(scratch.recorder, Stage::Decode);
  if (record.encoding == Encoding::RawGray) {
    const std::size_t need =
        static_cast<std::size_t>(record.width) * static_cast<std::size_t>(record.height);
    if (bytes.size() < need) throw DecodeError("raw pixels end early");
    out.info =
        scratch.decoder.convert_gray(bytes, record.width, record.height, request_, out.image);
  } else {
    const auto part = [&](int width, int height) -> std::optional<RegionF> {
      if (region.transform == nullptr || !uses_regions_) return std::nullopt;
      return region.transform->region(*region.recipe, region.which, width, height);
    };
    out.info = scratch.decoder.decode_chosen(bytes, request_, std::ref(part), out.image);
  }
  out.view = out.image.view();
  scratch.recorder.add_decoded(static_cast<std::int64_t>(out.image.bytes().size()));
}

void SourceLoader::offer_decoded(const CacheKey& key, std::int64_t cost_ns, LoadScratch& scratch,
                                 LoadedImage& image) {
  const StageTimer timer(scratch.recorder, Stage::Cache);
  DecodedHeader header;
  header.width = image.view.width;
  header.height = image.view.height;
  header.original_width = image.info.original_width;
  header.original_height = image.info.original_height;
  header.full_width = image.info.full_width;
  header.full_height = image.info.full_height;
  static_assert(sizeof header == Image::kHeadroom);
  const std::span<std::byte> value = image.image.bytes_with_headroom();
  std::memcpy(value.data(), &header, sizeof header);
  offer(key, value, cost_ns, scratch.recorder);
}

bool SourceLoader::worth_offering() {
  if (skip_offers_.load(std::memory_order_relaxed) <= 0) {
    pacer_.kept_behind(cache_->background_ns());
    return pacer_.may_fill();
  }
  skip_offers_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void SourceLoader::offer(const CacheKey& key, std::span<const std::byte> value,
                         std::int64_t cost_ns, WorkerRecorder& recorder) {
  const PutResult result = cache_->put(key, value, cost_ns);
  if (result == PutResult::Stored) recorder.add_kept(static_cast<std::int64_t>(value.size()));
  if (result == PutResult::Full || result == PutResult::Failed) {
    skip_offers_.store(kOffersSkippedWhenFull, std::memory_order_relaxed);
  }
}

void SourceLoader::will_need(const std::vector<std::int64_t>& indices, RecordScratch& scratch,
                             std::vector<CacheKey>& keys) const {
  keys.clear();
  for (const std::int64_t index : indices) {
    const Record record = dataset_.record(index, scratch);
    if (cacheable(record)) keys.push_back(key_of(record));
  }
  if (!keys.empty()) cache_->will_need(keys);
}

}  // namespace brim::detail
