#include "brim/dataloader/loader.h"

#include <utility>

#include "brim/cache/error.h"
#include "loader_engine.h"
#include "quarantine.h"

namespace brim {
namespace {

std::shared_ptr<const Sampler> choose_sampler(const LoaderOptions& options,
                                              const Dataset& dataset) {
  if (options.sampler) return options.sampler;
  return options.order == Order::Sequential ? make_sequential_sampler(dataset.size())
                                            : make_shuffle_sampler(dataset.size(), options.seed);
}

detail::EngineParts decide(std::shared_ptr<const Dataset> dataset,
                           std::shared_ptr<const Transform> transform, LoaderOptions options) {
  if (!dataset || !transform) throw Error("a loader needs a dataset and a transform");
  std::shared_ptr<MemoryBudget> budget = options.budget ? options.budget : MemoryBudget::make();
  const LoaderPlan plan = make_plan(options, *dataset, *transform, *budget);
  return {std::move(dataset), std::move(transform), std::move(options), plan, std::move(budget)};
}

}  // namespace

struct Loader::Impl {
  explicit Impl(detail::EngineParts parts)
      : dataset(parts.dataset),
        transform(parts.transform),
        plan(parts.plan),
        quarantine(parts.options.quarantine_file, parts.dataset->size(),
                   parts.options.max_bad_fraction),
        engine(parts, choose_sampler(parts.options, *parts.dataset), quarantine) {}

  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const Transform> transform;
  LoaderPlan plan;
  detail::Quarantine quarantine;
  detail::Engine engine;
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const Transform> transform,
               const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(decide(std::move(dataset), std::move(transform), options))) {
  if (impl_->engine.order().batches() > 0) return;
  throw Error("the " + std::to_string(impl_->engine.order().sampler().epoch_size()) +
                  " samples of an epoch do not fill one global batch of " +
                  std::to_string(options.batch_size * options.ranks),
              {.key = "loader.last_batch"}, "keep the last batch, or use a smaller batch");
}

Loader::~Loader() = default;

std::int64_t Loader::batches_per_epoch() const {
  return impl_->engine.order().batches();
}

std::int64_t Loader::samples_per_epoch() const {
  return impl_->engine.order().samples();
}

void Loader::start(std::int64_t epoch, std::int64_t first_batch) {
  impl_->engine.start(epoch, first_batch);
}

std::optional<Batch> Loader::next() {
  std::shared_ptr<detail::Slot> slot = impl_->engine.next();
  if (!slot) return std::nullopt;
  return Batch(std::move(slot));
}

bool Loader::ready() const {
  return impl_->engine.ready();
}

void Loader::stop() {
  impl_->engine.stop();
}

const LoaderPlan& Loader::plan() const {
  return impl_->plan;
}

const Dataset& Loader::dataset() const {
  return *impl_->dataset;
}

const Transform& Loader::transform() const {
  return *impl_->transform;
}

LoaderStatistics Loader::statistics() const {
  return impl_->engine.statistics();
}

std::vector<QuarantineEntry> Loader::quarantine() const {
  return impl_->quarantine.entries();
}

void list_bad_files(const std::string& file, std::span<const QuarantineEntry> entries) {
  detail::Quarantine(file, 0, 1.0).list(entries);
}

}  // namespace brim
