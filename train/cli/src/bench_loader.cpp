#include "bench_loader.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/memory_monitor.h"
#include "brim/cache/process_memory.h"
#include "brim/dataloader/cache_choice.h"
#include "brim/dataloader/decode_bound.h"
#include "brim/dataloader/random.h"
#include "brim/dataloader/transform.h"
#include "experiment.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double process_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Adds what happened from `before` to `after` of one epoch to `sum`.
void add_difference(const LoaderStatistics& before, const LoaderStatistics& after,
                    LoaderStatistics& sum) {
  add_statistics(before, sum, -1);
  add_statistics(after, sum);
}

/// Reads batches without end, epoch after epoch, and sums up what happened while it was told to.
class Reader {
 public:
  explicit Reader(Loader& loader) : loader_(loader) { loader_.start(0); }

  Batch next() {
    while (true) {
      const auto begin = Clock::now();
      if (std::optional<Batch> batch = loader_.next()) {
        if (std::exchange(at_boundary_, false)) boundary_seconds_ += seconds_since(begin);
        return std::move(*batch);
      }
      if (measuring_) add_difference(base_, loader_.statistics(), sum_);
      base_ = {};
      loader_.start(++epoch_);
      at_boundary_ = true;
      ++boundaries_;
    }
  }
  void skip(std::int64_t batches) {
    while (batches-- > 0) next();
  }
  void begin() {
    base_ = loader_.statistics();
    measuring_ = true;
  }
  void end() {
    add_difference(base_, loader_.statistics(), sum_);
    measuring_ = false;
  }
  double mean_boundary_seconds() const {
    return boundaries_ > 0 ? boundary_seconds_ / static_cast<double>(boundaries_) : 0;
  }
  const LoaderStatistics& sum() const { return sum_; }

 private:
  Loader& loader_;
  std::int64_t epoch_ = 0, boundaries_ = 0;
  double boundary_seconds_ = 0;
  bool at_boundary_ = false, measuring_ = false;
  LoaderStatistics base_{}, sum_{};
};

/// JPEG scale that the decoder's plan may choose: the largest that leaves the images at least as
/// large as they are needed.
int bound_scale(const Dataset& dataset, const Transform& transform) {
  const DecodeRequest request = transform.decode_request();
  RecordScratch scratch;
  const Record record = dataset.record(0, scratch);
  if (request.fit == DecodeRequest::Fit::Full || record.width < 1 || request.size < 1) return 1;
  const int side = request.fit == DecodeRequest::Fit::LongestSide
                       ? std::max(record.width, record.height)
                       : std::min(record.width, record.height);
  int scale = 1;
  while (scale < 8 && side / (2 * scale) >= request.size) scale *= 2;
  return scale;
}

struct Totals {
  std::int64_t samples = 0;
  double seconds = 0, cpu_seconds = 0;
  std::int64_t peak_bytes = 0;
};

/// One slice in the state where the consumer waits for every batch: what was made ahead while the
/// bound ran is taken first and not counted.
void run_slice(Reader& reader, const LoaderPlan& plan, double seconds, Totals& totals) {
  reader.skip(plan.slots);
  reader.begin();
  const auto begin = Clock::now();
  const double cpu_begin = process_cpu_seconds();
  do {
    totals.samples += reader.next().size();
  } while (seconds_since(begin) < seconds);
  totals.seconds += seconds_since(begin);
  reader.end();
  totals.cpu_seconds += process_cpu_seconds() - cpu_begin;
  totals.peak_bytes = std::max(totals.peak_bytes, resident_bytes());
}

std::shared_ptr<Store> open_cache(const BenchLoaderOptions& options,
                                  const std::shared_ptr<MemoryBudget>& budget) {
  return make_store({.mode = options.cache,
                     .directory = options.cache_directory,
                     .byte_limit = options.cache_bytes,
                     .budget = budget});
}

/// What the loader is measured against, and the memory that takes.
struct Bounds {
  Bounds(const BenchLoaderOptions& options, const LoaderPlan& plan, const Dataset& dataset,
         int scale, MemoryBudget& budget)
      : threads(std::max(plan.workers, 1)),
        niceness(plan.workers > 0 ? options.loader.niceness : 0),
        full(dataset, {.threads = threads, .niceness = niceness, .max_bytes = file_bytes(budget)}),
        scaled(dataset, {.threads = threads,
                         .scale_denominator = scale,
                         .niceness = niceness,
                         .max_bytes = scale > 1 ? file_bytes(budget) : 0}),
        memory(budget.reserve_or_throw(
            "decode bound", std::max(full.peak_bytes(), scaled.peak_bytes()) + full.file_bytes() +
                                scaled.file_bytes())) {}
  static std::int64_t file_bytes(const MemoryBudget& budget) {
    return std::min(DecodeBound::Options{}.max_bytes, budget.available() / 16);
  }
  const int threads, niceness;
  DecodeBound full, scaled;
  const Reservation memory;
};

void measure(const BenchLoaderOptions& options, Bounds& bounds, Loader& loader,
             BenchLoaderResult& result) {
  DecodeBound &full = bounds.full, &scaled = bounds.scaled;
  const std::int64_t before = resident_bytes();
  const auto started = Clock::now();
  Reader reader(loader);
  reader.next();
  result.first_batch_seconds = seconds_since(started);
  if (options.cache != CacheMode::None) reader.skip(loader.batches_per_epoch());

  Totals totals;
  const int slices = std::max(options.slices, 1);
  const double slice = options.seconds / slices;
  for (int i = 0; i < slices; ++i) {
    run_slice(reader, loader.plan(), slice, totals);
    // Workers fill the slots and leave before the bound has the processors to itself.
    const double rate = static_cast<double>(totals.samples) / totals.seconds;
    const double refill =
        2.0 * static_cast<double>(loader.plan().slots * loader.plan().batch_size) / rate;
    std::this_thread::sleep_for(std::chrono::duration<double>(refill));
    full.run(result.bound_scale == 1 ? slice : slice / 2);
    if (result.bound_scale > 1) scaled.run(slice / 2);
  }
  result.samples = totals.samples;
  result.images_per_second = static_cast<double>(totals.samples) / totals.seconds;
  result.cpu_seconds_per_image = totals.cpu_seconds / static_cast<double>(totals.samples);
  result.peak_bytes = totals.peak_bytes;
  result.loader_bytes = totals.peak_bytes - before;
  result.epoch_boundary_seconds = reader.mean_boundary_seconds();
  result.statistics = reader.sum();
  result.verdict = bottleneck(result.statistics);
  result.bound_cpu_seconds_per_image = full.cpu_seconds_per_image();
  const auto share = [&](double bound) { return bound > 0 ? result.images_per_second / bound : 0; };
  result.bound_images_per_second = full.images_per_second();
  result.bound_scaled_images_per_second =
      result.bound_scale > 1 ? scaled.images_per_second() : full.images_per_second();
  result.share_of_bound = share(result.bound_images_per_second);
  result.share_of_scaled_bound = share(result.bound_scaled_images_per_second);
}

std::uint64_t epoch_digest(Loader& loader, std::int64_t epoch) {
  std::uint64_t digest = 0;
  loader.start(epoch);
  while (const std::optional<Batch> batch = loader.next()) digest = mix64(digest, batch->digest());
  return digest;
}

}  // namespace

BenchMode parse_bench_mode(const std::string& text) {
  for (const BenchMode mode : {BenchMode::Letterbox, BenchMode::Mosaic, BenchMode::Classify}) {
    if (text == to_string(mode)) return mode;
  }
  throw Error("'" + text + "' is no mode", {.key = "mode"}, "one of letterbox, mosaic, classify");
}

std::string to_string(BenchMode mode) {
  switch (mode) {
    case BenchMode::Letterbox:
      return "letterbox";
    case BenchMode::Mosaic:
      return "mosaic";
    case BenchMode::Classify:
      return "classify";
  }
  return "?";
}

std::shared_ptr<const Transform> bench_transform(BenchMode mode, int image_size) {
  switch (mode) {
    case BenchMode::Letterbox:
      return make_letterbox_transform(image_size, image_size);
    case BenchMode::Mosaic:
      return make_detection_transform(image_size);
    case BenchMode::Classify:
      return make_classification_transform(image_size);
  }
  throw Error("no such mode");
}

BenchLoaderResult bench_loader(const BenchLoaderOptions& wish) {
  BenchLoaderOptions options = wish;
  BenchLoaderResult result;
  const std::shared_ptr<const Dataset> dataset = open_dataset(options.data, options.dataset);
  const std::shared_ptr<const Transform> transform =
      bench_transform(options.mode, options.image_size);
  const auto budget =
      cli::make_budget(options.memory_bytes, cli::Growth::kLoader, options.loader.workers);
  const MemoryMonitor monitor(budget);
  LoaderOptions settings = options.loader;
  settings.budget = budget;
  std::string why;
  if (wish.choose_cache) {
    const CacheWish open{.byte_limit = options.cache_bytes, .directory = options.cache_directory};
    const CacheChoice choice =
        choose_cache(measure_for_cache(*dataset, *transform, settings, *budget, open), open);
    options.cache = choice.mode;
    settings.cache_content = choice.content;
    why = " (" + choice.why + ")";
  }
  settings.cache = open_cache(options, budget);  // first: a refusal then counts what it takes
  result.bound_scale = bound_scale(*dataset, *transform);
  std::unique_ptr<Bounds> bounds;
  if (options.measure)
    bounds = std::make_unique<Bounds>(options, make_plan(settings, *dataset, *transform, *budget),
                                      *dataset, result.bound_scale, *budget);
  settings.fill_share = kFillAtOnce;  // what is measured is the cache as it is once filled
  if (wish.choose_cache) settings.cache = make_watched_store(settings.cache);
  Loader loader(dataset, transform, settings);
  result.dataset = options.data;
  result.transform = transform->describe();
  result.images = dataset->size();
  result.plan = loader.plan();
  if (bounds) measure(options, *bounds, loader, result);
  if (options.digest) result.digest = epoch_digest(loader, options.digest_epoch);
  if (settings.cache) result.cache = settings.cache->describe();
  result.cache += why;
  return result;
}

}  // namespace brim
