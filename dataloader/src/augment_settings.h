#pragma once

#include <string>

#include "brim/dataloader/transform.h"

namespace brim::detail {

/// Throws Error naming the key when `value` is not in [low, high].
void check_setting(double value, double low, double high, const char* key);
/// Throws Error when a sample side is outside [1, 8192].
void check_side(int size, const char* key);
void check(const DetectionAugmentation& augmentation);
void check(const ClassificationAugmentation& augmentation);

/// "name=value", shortest digits that read back to the same double.
std::string setting(const char* name, double value);
std::string describe(const DetectionAugmentation& augmentation);
std::string describe(const ClassificationAugmentation& augmentation);

/// The scratch as type S: the given one, or (a caller without make_scratch's) one kept in `own`.
template <typename S>
S& scratch_as(TransformScratch* scratch, std::unique_ptr<S>& own) {
  if (auto* fitting = dynamic_cast<S*>(scratch)) return *fitting;
  own = std::make_unique<S>();
  return *own;
}

}  // namespace brim::detail
