#pragma once

#include <memory>
#include <string>

#include "brim/train/network.h"
#include "model_yaml.h"

namespace brim::detail {

/// The detector that `spec` describes, named `name`, for `classes` classes.
std::shared_ptr<Detector> make_yolo(const ModelSpec& spec, const std::string& name, int classes);

/// ResNet of torchvision's names and shapes; `name` is one of resnet{18,34,50,101}, else null.
std::shared_ptr<Network> make_resnet(const std::string& name, int classes);

}  // namespace brim::detail
