#pragma once

#include <cstdint>

namespace brim {

/// splitmix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words.
constexpr std::uint64_t mix64(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// Folds another word into a key.
constexpr std::uint64_t mix64(std::uint64_t key, std::uint64_t word) {
  return mix64(key ^ mix64(word));
}

/// What a random number is for. Adding a purpose never changes the numbers of the others.
enum class Purpose : std::uint64_t {
  Order = 1,
  Partners,
  Mosaic,
  Perspective,
  Mixup,
  Colour,
  Flip,
  Crop,
  CopyPaste,
  Replacement,
  ClassWeights,
  MultiScale,
  Composer,
  User = 1000,
};

/// Counter-based generator: the n-th number depends on (key, purpose, n) alone, so nothing random
/// depends on threads, order of work or cache. Cheap to make, no state to save.
///
///   Generator g(recipe.key, Purpose::Crop);
///   double x = g.uniform(-0.5, 0.5);
class Generator {
 public:
  constexpr Generator(std::uint64_t key, Purpose purpose)
      : key_(mix64(key, static_cast<std::uint64_t>(purpose))) {}

  constexpr std::uint64_t next() { return mix64(key_ + 0x9E3779B97F4A7C15ull * counter_++); }
  /// Uniform in [0, 1), 53 bits.
  constexpr double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in [0, n); n > 0. Multiply-shift: bias below n / 2^64.
  constexpr std::uint64_t below(std::uint64_t n) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  constexpr bool chance(double probability) { return uniform() < probability; }

 private:
  std::uint64_t key_;
  std::uint64_t counter_ = 0;
};

}  // namespace brim
