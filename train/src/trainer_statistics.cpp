#include <utility>
#include <vector>

#include "brim/train/training_scope.h"
#include "trainer_impl.h"

namespace brim {
namespace {

/// While it lives, a network is as in evaluation but that its batch-norm layers normalise by the
/// batch, and take plain means over forward passes instead of running averages.
class MeanStatisticsScope {
 public:
  explicit MeanStatisticsScope(torch::nn::Module& network) : evaluation_(network) {
    for (const auto& module : network.modules()) {
      auto* layer = module->as<torch::nn::BatchNorm2dImpl>();
      if (layer == nullptr) continue;
      layers_.emplace_back(layer, layer->options.momentum());
      layer->train();
    }
  }
  ~MeanStatisticsScope() {
    for (auto& [layer, momentum] : layers_) layer->options.momentum(momentum);
  }
  MeanStatisticsScope(const MeanStatisticsScope&) = delete;
  MeanStatisticsScope& operator=(const MeanStatisticsScope&) = delete;

  bool empty() const { return layers_.empty(); }
  /// The next pass is the `number`-th, counted from 1.
  void begin_pass(std::int64_t number) {
    for (auto& [layer, momentum] : layers_)
      layer->options.momentum(1.0 / static_cast<double>(number));
  }

 private:
  using Momentum = std::remove_cvref_t<decltype(torch::nn::BatchNormOptions(1).momentum())>;
  EvaluationScope evaluation_;
  std::vector<std::pair<torch::nn::BatchNorm2dImpl*, Momentum>> layers_;
};

}  // namespace

/// Batch-norm statistics of the weights as they are, over the first images of the epoch to come: a
/// loader that looks ahead has them ready, and they are the same wherever a run was resumed.
void Trainer::Impl::measure_statistics(BatchSource& source) {
  if (options.precise_bn <= 0) return;
  MeanStatisticsScope means(*network);
  if (means.empty()) return;
  const torch::NoGradGuard no_grad;
  std::int64_t from = batch == 0 ? epoch : epoch + 1;
  source.start(from, 0);
  std::int64_t passes = 0;
  for (std::int64_t images = 0; images < options.precise_bn; images += options.batch_size) {
    std::optional<TensorBatch> data = source.next();
    if (!data) {  // fewer images than wanted: their next augmentations
      source.start(++from, 0);
      data = source.next();
    }
    if (!data) return;
    const std::int64_t before = passes;
    surviving->run(*data, [&](const StepPart& part) {
      if (part.first == 0) passes = before;
      const TensorBatch seen = shown(part.batch);
      const SharedStatisticsScope sharing(together() ? statistics : nullptr);
      means.begin_pass(++passes);
      run_network(seen.images, seen.images.size(2), seen.images.size(3));
    });
  }
  // What the epoch begins with is made while the weights are evaluated.
  if (batch == 0 && epoch < options.epochs && !out_of_steps()) source.start(epoch, 0);
}

}  // namespace brim
