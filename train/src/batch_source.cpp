#include "brim/train/batch_source.h"

namespace brim {
namespace {
class LoaderSource final : public BatchSource {
 public:
  LoaderSource(Loader& loader, torch::Device device) : loader_(loader), batches_(loader, device) {}
  std::int64_t batches_per_epoch() const override { return loader_.batches_per_epoch(); }
  void start(std::int64_t epoch, std::int64_t first_batch) override {
    batches_.start(epoch, first_batch);
  }
  std::optional<TensorBatch> next() override { return batches_.next(); }
  double cache_hit_rate() const override {
    const LoaderStatistics statistics = loader_.statistics();
    return statistics.cache_hits + statistics.cache_misses > 0 ? statistics.hit_rate() : -1;
  }

 private:
  Loader& loader_;
  DeviceLoader batches_;
};
}  // namespace

std::unique_ptr<BatchSource> make_batch_source(Loader& loader, torch::Device device) {
  return std::make_unique<LoaderSource>(loader, device);
}

}  // namespace brim
