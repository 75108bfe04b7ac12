#include <gtest/gtest.h>

#include "brim/train/detection_loss.h"

namespace {
/// Gradients of the parts of a batch add up to those of the whole, by both implementations.
TEST(DetectionLoss, PartsAddUpToTheWholeBatch) {
  torch::manual_seed(4);
  const torch::Tensor anchors = torch::rand({2, 3, 2}) * 3 + 0.5;
  std::vector<torch::Tensor> grids{torch::randn({5, 3, 8, 12, 9}), torch::randn({5, 3, 4, 6, 9})};
  brim::TensorBatch whole;
  whole.images = torch::zeros({5, 3, 64, 96}, torch::kByte);
  const torch::Tensor image = torch::tensor({0., 0., 0., 0., 1., 1., 3., 4., 4., 4.});
  whole.targets = torch::cat({image.view({-1, 1}).to(torch::kFloat), torch::randint(4, {10, 1}),
                              torch::rand({10, 2}) * 0.8 + 0.1, torch::rand({10, 2}) * 0.3 + 0.05},
                             1);
  for (const auto path : {brim::DetectionLoss::Path::Fused, brim::DetectionLoss::Path::Tensors}) {
    brim::DetectionLoss objective(anchors, 4, {.image_size = 96}, path);
    std::vector<torch::Tensor> expected, found;
    std::vector<torch::Tensor> leaves;
    for (const auto& grid : grids) leaves.push_back(grid.clone().requires_grad_());
    const brim::LossResult all = objective.loss({.levels = leaves}, whole);
    all.total.backward();
    for (const auto& leaf : leaves) expected.push_back(leaf.grad());
    leaves.clear();
    for (const auto& grid : grids) leaves.push_back(grid.clone().requires_grad_());
    double total = 0;
    for (const auto& [begin, end] : {std::pair{0, 2}, std::pair{2, 3}, std::pair{3, 5}}) {
      brim::TensorBatch part;
      part.images = whole.images.slice(0, begin, end);
      part.targets = whole.targets.index({image.ge(begin).logical_and(image.lt(end))}).clone();
      part.targets.select(1, 0).sub_(begin);
      brim::NetworkOutput output;
      for (const auto& leaf : leaves) output.levels.push_back(leaf.slice(0, begin, end));
      const brim::LossResult share = objective.partial_loss(output, part, whole);
      share.total.backward();
      total += share.total.item<double>();
    }
    EXPECT_NEAR(total, all.total.item<double>(), 1e-4 * std::abs(total));
    for (std::size_t i = 0; i < leaves.size(); ++i)
      EXPECT_TRUE(leaves[i].grad().allclose(expected[i], 1e-4, 1e-7)) << i;
  }
}
}  // namespace
