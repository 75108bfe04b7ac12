#include "brim/dataloader/sampler.h"

#include <bit>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"

namespace brim {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;

class SequentialSampler final : public Sampler {
 public:
  explicit SequentialSampler(std::int64_t size) : size_(size) {}
  std::int64_t epoch_size() const override { return size_; }
  std::int64_t at(std::int64_t, std::int64_t position) const override { return position; }
  std::string describe() const override { return "sequential:" + std::to_string(size_); }

 private:
  std::int64_t size_;
};

class ShuffleSampler final : public Sampler {
 public:
  ShuffleSampler(std::int64_t size, std::uint64_t seed) : size_(size), seed_(seed) {}
  std::int64_t epoch_size() const override { return size_; }
  std::int64_t at(std::int64_t epoch, std::int64_t position) const override {
    const std::uint64_t key = mix64(mix64(seed_, static_cast<std::uint64_t>(Purpose::Order)),
                                    static_cast<std::uint64_t>(epoch));
    return Permutation(size_, key)(position);
  }
  std::string describe() const override {
    return "shuffle:" + std::to_string(size_) + ":seed=" + std::to_string(seed_);
  }

 private:
  std::int64_t size_;
  std::uint64_t seed_;
};

void check_size(std::int64_t size) {
  if (size < 1 || size > kMaxSize) {
    throw Error("a sampler needs 1 to 2^40 samples, got " + std::to_string(size));
  }
}

}  // namespace

Permutation::Permutation(std::int64_t size, std::uint64_t key) : size_(size), key_(key) {
  check_size(size);
  const int bits = std::bit_width(static_cast<std::uint64_t>(size - 1));
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
  rounds_ = half_bits_ < 4 ? 24 : half_bits_ < 7 ? 10 : 6;  // few bits mix slowly
}

std::int64_t Permutation::operator()(std::int64_t position) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<std::uint64_t>(position);
  do {  // cycle walking: fewer than 4 passes on average
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (int round = 0; round < rounds_; ++round) {
      const std::uint64_t word = right << 5 | static_cast<std::uint64_t>(round);
      const std::uint64_t mixed = left ^ (mix64(word ^ key_) & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits_ | right;
  } while (value >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(value);
}

std::shared_ptr<const Sampler> make_sequential_sampler(std::int64_t size) {
  check_size(size);
  return std::make_shared<SequentialSampler>(size);
}

std::shared_ptr<const Sampler> make_shuffle_sampler(std::int64_t size, std::uint64_t seed) {
  check_size(size);
  return std::make_shared<ShuffleSampler>(size, seed);
}

}  // namespace brim
