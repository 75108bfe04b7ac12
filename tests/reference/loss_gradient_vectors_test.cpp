#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "brim/train/detection_loss.h"
#include "support/reference.h"

namespace brim::test {
namespace {

constexpr double kLearningRate = 0.01, kMomentum = 0.937, kWeightDecay = 0.0005;

/// Weights of convolutions, which alone decay; batch norm's are vectors.
bool decays(const std::string& name, const torch::Tensor& parameter) {
  return ends_with(name, "weight") && parameter.dim() == 4;
}

TEST(GradientVectors, HoldForEveryParameterAndForOneStep) {
  BRIM_TEST_DATA_OR_SKIP(folder, "reference/yolov5");
  for (const auto& variant : reference_variants()) {
    SCOPED_TRACE(variant.name);
    const TensorMap v = load_tensors(variant.path);
    const auto network = make_network({.model = variant.name, .classes = 3});
    fill_weights(*network);
    network->train();
    DetectionLoss objective(dynamic_cast<Detector&>(*network).anchors(), 3, {.image_size = 192});
    const auto output = network->forward(at(v, "input"));
    objective.loss(output.levels, at(v, "targets")).total.backward();

    const auto names =
        nlohmann::json::parse(read_file(folder + "/" + variant.name + "_parameter_names.json"));
    const auto parameters = network->named_parameters();
    ASSERT_EQ(names.size(), parameters.size());
    const auto& norms = at(v, "grad_norms");
    const auto& stepped = at(v, "param_norms_after_step");
    const torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto name = names[i].get<std::string>();
      const auto row = static_cast<std::int64_t>(i);
      const auto& parameter = parameters[name];
      const double expected = norms[row].item<double>();
      EXPECT_NEAR(parameter.grad().norm().item<double>(), expected, 1e-3 * expected + 1e-9) << name;
      // The first step of SGD with Nesterov's momentum.
      const auto slope =
          parameter.grad() + (decays(name, parameter) ? kWeightDecay : 0) * parameter;
      const auto moved = parameter - kLearningRate * (1 + kMomentum) * slope;
      EXPECT_LT(relative_error(moved.norm(), stepped[row]), 1e-4) << name;
    }
  }
}

}  // namespace
}  // namespace brim::test
