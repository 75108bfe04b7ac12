#include <gtest/gtest.h>

#include "brim/train/detection_loss.h"
#include "support/reference.h"

namespace brim::test {
namespace {

constexpr int kClasses = 3;
constexpr int kImageSize = 192;
const std::vector<double> kAnchors5 = {10, 13, 16,  30,  33, 23,  30,  61,  62,
                                       45, 59, 119, 116, 90, 156, 198, 373, 326};
const std::vector<double> kAnchors6 = {19,  27,  44,  40,  38,  94,  96,  68,  86,  152, 180, 137,
                                       140, 301, 303, 264, 238, 542, 436, 615, 739, 380, 925, 792};

torch::Tensor anchors_of(std::int64_t levels) {
  auto anchors = levels == 3 ? torch::tensor(kAnchors5) : torch::tensor(kAnchors6);
  const auto strides = torch::pow(2, torch::arange(3, 3 + levels)).view({levels, 1, 1});
  return (anchors.view({levels, 3, 2}) / strides).to(torch::kFloat);
}

struct Vectors {
  explicit Vectors(const std::string& path) : map(load_tensors(path)) {
    for (int i = 0; map.count("train_raw_" + std::to_string(i)) != 0; ++i) {
      levels.push_back(at(map, "train_raw_" + std::to_string(i)));
    }
    anchors = anchors_of(static_cast<std::int64_t>(levels.size()));
  }
  TensorMap map;
  std::vector<torch::Tensor> levels;
  torch::Tensor anchors;
};

class LossVectors : public testing::TestWithParam<DetectionLoss::Path> {};

void expect_loss(const Vectors& v, DetectionLoss::Path path, DetectionLossOptions options,
                 const torch::Tensor& targets, const std::string& total,
                 const std::string& components) {
  options.image_size = kImageSize;
  DetectionLoss objective(v.anchors, kClasses, options, path);
  const LossResult result = objective.loss(v.levels, targets);
  EXPECT_LT(relative_error(result.total.view({1}), at(v.map, total)), 1e-4) << total;
  const auto& expected = at(v.map, components);
  for (int i = 0; i < 3; ++i) {
    EXPECT_LT(relative_error(result.components[i], expected[i]), 1e-4) << components << ' ' << i;
  }
}

TEST_P(LossVectors, HoldForEverySetting) {
  BRIM_TEST_DATA_OR_SKIP(folder, "reference/yolov5");
  for (const auto& variant : reference_variants()) {
    SCOPED_TRACE(variant.name);
    const Vectors v(variant.path);
    const auto targets = at(v.map, "targets");
    expect_loss(v, GetParam(), {}, targets, "loss", "loss_items_box_obj_cls");
    // The two settings are not written down with the vectors; these values reproduce all of them.
    expect_loss(v, GetParam(), {.fl_gamma = 1.5, .label_smoothing = 0.1}, targets,
                "loss_smooth_focal", "loss_items_smooth_focal");
    expect_loss(v, GetParam(), {.cls_pw = 0.7, .obj_pw = 1.3}, targets, "loss_pos_weight",
                "loss_items_pos_weight");
    expect_loss(v, GetParam(), {}, torch::zeros({0, 6}), "loss_no_targets",
                "loss_items_no_targets");
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, LossVectors,
                         testing::Values(DetectionLoss::Path::Fused, DetectionLoss::Path::Tensors),
                         [](const auto& tested) {
                           return tested.param == DetectionLoss::Path::Fused ? "Fused" : "Tensors";
                         });

TEST(AssignmentVectors, AsManyLabelsAreMatchedOnEachLevel) {
  BRIM_TEST_DATA_OR_SKIP(folder, "reference/yolov5");
  for (const auto& variant : reference_variants()) {
    SCOPED_TRACE(variant.name);
    const Vectors v(variant.path);
    const auto targets = at(v.map, "targets").contiguous();
    const std::span rows(reinterpret_cast<const TargetRow*>(targets.data_ptr<float>()),
                         static_cast<std::size_t>(targets.size(0)));
    for (std::size_t i = 0; i < v.levels.size(); ++i) {
      const auto matches = match_targets(rows, {v.anchors.data_ptr<float>() + 6 * i, 6},
                                         static_cast<int>(v.levels[i].size(3)),
                                         static_cast<int>(v.levels[i].size(2)), 4.0);
      EXPECT_EQ(static_cast<std::int64_t>(matches.size()),
                at(v.map, "assigned_per_level")[static_cast<std::int64_t>(i)].item<std::int64_t>());
    }
  }
}

}  // namespace
}  // namespace brim::test
