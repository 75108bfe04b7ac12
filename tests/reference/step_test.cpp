#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "brim/train/detection_loss.h"
#include "brim/train/network.h"
#include "brim/train/optimizer.h"
#include "support/reference.h"

namespace brim::test {
namespace {

/// Forward, loss, backward and one SGD step of every variant: each parameter's gradient norm and
/// its norm after the step.
TEST(ReferenceStep, GradientsAndUpdatedWeightsAgree) {
  const auto variants = reference_variants();
  if (variants.empty()) GTEST_SKIP() << "no reference/yolov5/*_train_eval.pt under BRIM_TEST_DATA";
  for (const auto& variant : variants) {
    SCOPED_TRACE(variant.name);
    const TensorMap expected = load_tensors(variant.path);
    BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/" + variant.name + "_parameter_names.json");
    std::ifstream in(path);
    const auto names = nlohmann::json::parse(in).get<std::vector<std::string>>();
    const auto network = make_network({.model = variant.name, .classes = 3});
    fill_weights(*network);
    auto& detector = dynamic_cast<Detector&>(*network);
    network->train();
    DetectionLoss objective(detector.anchors(), 3, {.image_size = 192});
    const NetworkOutput output =
        network->forward(at(expected, "input").contiguous(torch::MemoryFormat::ChannelsLast));
    objective.loss(output.levels, at(expected, "targets")).total.backward();
    auto parameters = network->named_parameters();
    ASSERT_EQ(names.size(), parameters.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      const double norm = parameters[names[i]].grad().norm().item<double>();
      const double wanted = at(expected, "grad_norms")[static_cast<std::int64_t>(i)].item<double>();
      EXPECT_NEAR(norm, wanted, 1e-3 * std::abs(wanted) + 1e-6) << names[i];
    }
    Optimizer optimizer(*network, {.momentum = 0.937, .weight_decay = 0.0005});
    optimizer.set_learning_rates({0.01, 0.01, 0.01});
    ASSERT_TRUE(optimizer.step({.max_norm = 0}).stepped);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const double norm = parameters[names[i]].norm().item<double>();
      const double wanted =
          at(expected, "param_norms_after_step")[static_cast<std::int64_t>(i)].item<double>();
      EXPECT_NEAR(norm, wanted, 1e-4 * std::abs(wanted) + 1e-7) << names[i];
    }
  }
}

TEST(ReferenceStep, ParameterGroupsAndAverageDecayAgree) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/models.json");
  std::ifstream in(path);
  const auto facts = nlohmann::json::parse(in);
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  const Optimizer optimizer(*network, {});
  const auto sizes = optimizer.group_sizes();
  EXPECT_EQ((std::vector<std::int64_t>{sizes.begin(), sizes.end()}),
            facts.at("param_group_sizes_yolov5n_nc3").get<std::vector<std::int64_t>>());
  const ModelEma ema(*network);
  for (const auto& [update, decay] : facts.at("ema_decay").items())
    EXPECT_NEAR(ema.decay_at(std::stoll(update)), decay.get<double>(), 1e-12);
}

}  // namespace
}  // namespace brim::test
