#include "brim/dataloader/transform.h"

namespace brim {

void Transform::choose(Recipe&, PartnerDraw&) const {}

std::optional<RegionF> Transform::region(const Recipe&, int, int, int) const {
  return std::nullopt;
}

std::unique_ptr<TransformScratch> Transform::make_scratch() const {
  return std::make_unique<TransformScratch>();
}

}  // namespace brim
