#include <cmath>
#include <numeric>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"
#include "brim/dataloader/sampler.h"

namespace brim {
namespace {

/// Draws with replacement in O(1): column `i` of the alias table keeps `i` with probability
/// accept_[i] and gives alias_[i] otherwise.
class WeightedSampler final : public Sampler {
 public:
  WeightedSampler(const std::vector<double>& weights, double sum, std::int64_t epoch_size,
                  std::uint64_t seed)
      : epoch_size_(epoch_size), seed_(seed), accept_(weights.size()), alias_(weights.size()) {
    build(weights, sum);
  }

  std::int64_t epoch_size() const override { return epoch_size_; }

  std::int64_t at(std::int64_t epoch, std::int64_t position) const override {
    const std::uint64_t key = mix64(mix64(seed_, static_cast<std::uint64_t>(epoch)),
                                    static_cast<std::uint64_t>(position));
    Generator generator(key, Purpose::ClassWeights);
    const std::uint64_t column = generator.below(accept_.size());
    return generator.uniform() < accept_[column] ? static_cast<std::int64_t>(column)
                                                 : alias_[column];
  }

  std::string describe() const override {
    return "weighted:" + std::to_string(accept_.size()) + ":draws=" + std::to_string(epoch_size_) +
           ":seed=" + std::to_string(seed_);
  }

 private:
  void build(const std::vector<double>& weights, double sum) {
    std::vector<std::int64_t> small, large;
    const auto count = static_cast<std::int64_t>(weights.size());
    for (std::int64_t i = 0; i < count; ++i) {
      accept_[i] = weights[i] / sum * static_cast<double>(count);
      (accept_[i] < 1.0 ? small : large).push_back(i);
    }
    std::iota(alias_.begin(), alias_.end(), std::int64_t{0});
    while (!small.empty() && !large.empty()) {
      const std::int64_t under = small.back(), over = large.back();
      small.pop_back();
      alias_[under] = over;
      accept_[over] -= 1.0 - accept_[under];
      if (accept_[over] < 1.0) {
        large.pop_back();
        small.push_back(over);
      }
    }
    // What rounding left over is 1 up to an ulp; a weight of zero never ends up here alone.
    for (const std::int64_t i : large) accept_[i] = 1.0;
    for (const std::int64_t i : small) {
      if (weights[i] > 0) accept_[i] = 1.0;
    }
    redirect_zeros(weights);
  }

  /// A zero weight that rounding left without an alias must still never be drawn.
  void redirect_zeros(const std::vector<double>& weights) {
    std::size_t heaviest = 0;
    for (std::size_t i = 1; i < weights.size(); ++i) {
      if (weights[i] > weights[heaviest]) heaviest = i;
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] > 0) continue;
      accept_[i] = 0.0;
      if (weights[static_cast<std::size_t>(alias_[i])] <= 0) {
        alias_[i] = static_cast<std::int64_t>(heaviest);
      }
    }
  }

  std::int64_t epoch_size_;
  std::uint64_t seed_;
  std::vector<double> accept_;
  std::vector<std::int64_t> alias_;
};

}  // namespace

std::shared_ptr<const Sampler> make_weighted_sampler(std::vector<double> weights,
                                                     std::int64_t epoch_size, std::uint64_t seed) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0) {
      throw Error("weight of sample " + std::to_string(i) + " is " + std::to_string(weights[i]),
                  {.key = "weights"}, "weights are finite and not negative");
    }
    sum += weights[i];
  }
  if (!(sum > 0) || !std::isfinite(sum)) {
    throw Error("the weights of all samples add up to " + std::to_string(sum), {.key = "weights"},
                "at least one weight must be above zero and their sum finite");
  }
  if (epoch_size < 1) {
    throw Error("an epoch of " + std::to_string(epoch_size) + " samples", {.key = "epoch_size"});
  }
  return std::make_shared<WeightedSampler>(weights, sum, epoch_size, seed);
}

}  // namespace brim
