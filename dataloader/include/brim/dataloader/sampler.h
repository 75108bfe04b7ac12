#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace brim {

/// Which dataset sample stands at which position of an epoch. A pure function, O(1) memory for
/// shuffles, any position at once: resuming needs only (seed, epoch, position). Thread-safe.
class Sampler {
 public:
  virtual ~Sampler() = default;
  virtual std::int64_t epoch_size() const = 0;
  /// Dataset index at `position` in [0, epoch_size()) of `epoch` (any 64-bit value).
  virtual std::int64_t at(std::int64_t epoch, std::int64_t position) const = 0;
  virtual std::string describe() const = 0;
};

std::shared_ptr<const Sampler> make_sequential_sampler(std::int64_t size);
/// Exact permutation of [0, size), a new one each epoch: a keyed Feistel network (6 rounds, more
/// for tiny sizes) over the next even power of two with cycle walking (Black and Rogaway 2002).
std::shared_ptr<const Sampler> make_shuffle_sampler(std::int64_t size, std::uint64_t seed);
/// Draws `epoch_size` samples with replacement in proportion to `weights` (one per sample; finite,
/// not negative, not all zero), by the alias method (Walker 1977). Throws Error.
std::shared_ptr<const Sampler> make_weighted_sampler(std::vector<double> weights,
                                                     std::int64_t epoch_size, std::uint64_t seed);

/// A keyed permutation of [0, size), size <= 2^40.
class Permutation {
 public:
  Permutation(std::int64_t size, std::uint64_t key);
  std::int64_t operator()(std::int64_t position) const;
  std::int64_t size() const { return size_; }

 private:
  std::int64_t size_;
  std::uint64_t key_;
  int half_bits_;
  int rounds_;
};

}  // namespace brim
