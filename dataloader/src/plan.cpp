#include <algorithm>
#include <cmath>

#include "brim/cache/error.h"
#include "brim/dataloader/batch.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/loader_options.h"
#include "brim/dataloader/transform.h"
#include "loader_order.h"

namespace brim {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kTypicalPixels = 640 * 480;

[[noreturn]] void refuse(const std::string& message, const char* key,
                         const std::string& hint = {}) {
  throw Error(message, {.key = key}, hint);
}

void check(const LoaderOptions& o, const Dataset& dataset, const Transform& transform) {
  if (dataset.size() < 1) refuse("the dataset has no samples", "data");
  if (transform.width() < 1 || transform.height() < 1) {
    refuse("the transform makes samples of no size", "transform");
  }
  if (o.batch_size < 1) refuse("is " + std::to_string(o.batch_size), "loader.batch_size");
  if (o.workers < 0 && o.workers != kAuto) refuse("is negative", "loader.workers");
  if (o.workers > 1024) refuse("more than 1024 workers", "loader.workers");
  if (o.prefetch_batches < 1 && o.prefetch_batches != kAuto) {
    refuse("at least one batch must be made ahead", "loader.prefetch_batches");
  }
  if (o.ranks < 1 || o.rank < 0 || o.rank >= o.ranks) {
    refuse("rank " + std::to_string(o.rank) + " of " + std::to_string(o.ranks), "loader.rank");
  }
  const std::int64_t global = o.batch_size * o.ranks;
  const std::int64_t samples = o.sampler ? o.sampler->epoch_size() : dataset.size();
  if (o.epoch_batches != 0 &&
      (o.last_batch != LastBatch::Keep || o.epoch_batches < (samples + global - 1) / global)) {
    refuse(std::to_string(o.epoch_batches) + " batches do not hold the samples of an epoch",
           "loader.epoch_batches");
  }
  if (o.lanes < 1 || o.lanes % o.ranks != 0) {
    refuse(std::to_string(o.lanes) + " lanes cannot be shared by " + std::to_string(o.ranks) +
               " ranks",
           "loader.lanes", "lanes must be a multiple of the rank count");
  }
  if (o.window < 1) refuse("is " + std::to_string(o.window), "loader.window");
  if (!(o.max_bad_fraction >= 0 && o.max_bad_fraction <= 1)) {
    refuse("must lie between 0 and 1", "loader.max_bad_fraction");
  }
}

/// Bytes of one decoded image after `request`, the largest of a few samples whose size is known.
std::int64_t image_bytes(const Dataset& dataset, const DecodeRequest& request) {
  constexpr std::int64_t kLookedAt = 64;
  RecordScratch scratch;
  double most = 0;
  const std::int64_t count = std::min(dataset.size(), kLookedAt);
  for (std::int64_t i = 0; i < count; ++i) {
    const Record record = dataset.record(i * dataset.size() / count, scratch);
    if (record.width < 1 || record.height < 1) continue;
    const double longest = std::max(record.width, record.height);
    const double shortest = std::min(record.width, record.height);
    double scale = 1;
    if (request.fit == DecodeRequest::Fit::LongestSide) {
      scale = std::min(1.0, request.size / longest);
    } else if (request.fit == DecodeRequest::Fit::ShortestSideAtLeast) {
      for (int n = 0; n < 3 && shortest * scale / 2 >= request.size; ++n) scale /= 2;
    }
    most = std::max(most, longest * shortest * scale * scale);
  }
  if (most <= 0) {
    const double side = request.size;
    most = request.fit == DecodeRequest::Fit::Full ? kTypicalPixels : 2 * side * side;
  }
  return static_cast<std::int64_t>(3 * most);
}

/// Whether samples have partners often enough for a shared window to pay.
bool draws_partners(const Transform& transform) {
  class Count final : public PartnerDraw {
   public:
    std::int64_t draw() override { return ++drawn; }
    std::int64_t drawn = 0;
  } count;
  constexpr int kTried = 64;
  for (std::uint64_t key = 0; key < kTried; ++key) {
    Recipe recipe;
    recipe.key = mix64(key, 0x706c616e);
    transform.choose(recipe, count);
  }
  return count.drawn * 4 >= kTried;
}

}  // namespace

LoaderPlan make_plan(const LoaderOptions& options, const Dataset& dataset,
                     const Transform& transform, MemoryBudget& budget) {
  check(options, dataset, transform);
  LoaderPlan plan;
  plan.batch_size = options.batch_size;
  plan.workers = options.workers == kAuto ? available_cpus() : options.workers;
  plan.shares_window = options.partners == Partners::Window && draws_partners(transform);

  const std::int64_t sample = std::int64_t{3} * transform.width() * transform.height();
  const std::int64_t labels = 128 * static_cast<std::int64_t>(sizeof(TargetRow));
  plan.slot_bytes =
      (plan.batch_size * sample + kPage - 1) / kPage * kPage + plan.batch_size * (labels + 256);
  const std::int64_t image = image_bytes(dataset, transform.decode_request());
  const std::int64_t threads = std::max(plan.workers, 1);
  const std::int64_t held =
      plan.shares_window ? options.lanes / options.ranks * std::max(options.window, 2) + 2 * threads
                         : 0;
  plan.window_bytes = held * image;
  plan.scratch_bytes = threads * (4 * image + (std::int64_t{1} << 20));

  const auto total = [&](std::int64_t prefetch) {
    return (prefetch + 1) * plan.slot_bytes + plan.window_bytes + plan.scratch_bytes;
  };
  budget.refresh();  // others, such as a tuner's probe, may have ended since the last look
  const std::int64_t room = budget.available();
  if (options.prefetch_batches == kAuto) {
    plan.prefetch_batches = 4;
    while (plan.prefetch_batches > 2 && plan.prefetch_batches * plan.slot_bytes > room / 8) {
      --plan.prefetch_batches;
    }
    while (plan.prefetch_batches > 1 && total(plan.prefetch_batches) > room) {
      --plan.prefetch_batches;
    }
  } else {
    plan.prefetch_batches = options.prefetch_batches;
  }
  plan.slots = plan.prefetch_batches + 1;
  plan.total_bytes = total(plan.prefetch_batches);
  if (plan.total_bytes > room) {
    throw Error(
        "the loader needs " + format_bytes(plan.total_bytes) + " (" + std::to_string(plan.slots) +
            " batches of " + format_bytes(plan.slot_bytes) + ", " +
            format_bytes(plan.window_bytes) + " of decoded partners, " +
            format_bytes(plan.scratch_bytes) + " of scratch) and the budget has " +
            format_bytes(room) + " left of " + format_bytes(budget.limit()),
        {.key = "memory"},
        budget.remedy(plan.total_bytes) + "; a smaller batch, image size or window needs less");
  }
  return plan;
}

}  // namespace brim
