#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <opencv2/core.hpp>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/random.h"

namespace brim::detail {

/// A textured colour background: gradient, cloudy noise, stripes and shapes (BGR, float 0..255).
cv::Mat compose_background(int size, Generator& random);

struct ScenePlan {
  int size = 320;
  int min_objects = 2;
  int max_objects = 7;
  std::int64_t only = -1;  ///< sample of the source that every object shows; -1: any
  double min_side = 0.16, max_side = 0.44;  ///< of an object, fractions of `size`, before cropping
};

struct Scene {
  cv::Mat pixels;  ///< BGR, 8 bit
  std::vector<Box> boxes;
};

/// The objects that scenes are made of: images of some classes of a dataset.
struct SceneSource {
  std::shared_ptr<const Dataset> dataset;
  std::vector<std::int64_t> indices;  ///< of the images used
  std::vector<std::int32_t> classes;  ///< the dataset's classes used, ascending
  std::int32_t class_of(std::int32_t dataset_class) const {
    return static_cast<std::int32_t>(
        std::lower_bound(classes.begin(), classes.end(), dataset_class) - classes.begin());
  }
};

/// One scene of objects drawn from `source` (8-bit grey images on black). Every box encloses
/// exactly the pixels of its object that are seen, at least half of all it has.
Scene compose_scene(const SceneSource& source, const ScenePlan& plan, std::uint64_t key);

}  // namespace brim::detail
