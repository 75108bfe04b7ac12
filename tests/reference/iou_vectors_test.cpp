#include <gtest/gtest.h>

#include "brim/train/boxes.h"
#include "support/reference.h"

namespace brim::test {
namespace {

constexpr std::pair<const char*, Overlap> kKinds[] = {{"iou", Overlap::IoU},
                                                      {"giou", Overlap::GIoU},
                                                      {"diou", Overlap::DIoU},
                                                      {"ciou", Overlap::CIoU}};

CenterBox row(const torch::Tensor& t, std::int64_t i) {
  const float* p = t.data_ptr<float>() + i * 4;
  return {p[0], p[1], p[2], p[3]};
}

TEST(IouVectors, HoldForTensorsAndForSingleBoxes) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/iou.pt");
  const TensorMap v = load_tensors(path);
  const auto a = at(v, "box1_xywh").contiguous(), b = at(v, "box2_xywh").contiguous();
  for (const auto& [name, kind] : kKinds) {
    const auto& expected = at(v, name);
    EXPECT_LT(relative_error(overlap(a, b, kind), expected), 1e-5) << name;
    auto single = torch::empty_like(expected);
    for (std::int64_t i = 0; i < a.size(0); ++i) single[i] = overlap(row(a, i), row(b, i), kind);
    EXPECT_LT(relative_error(single, expected), 1e-5) << name;
  }
}

TEST(IouVectors, HoldForCornersAndForTheLossKernel) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/iou.pt");
  const TensorMap v = load_tensors(path);
  const auto a = at(v, "box1_xywh").contiguous(), b = at(v, "box2_xywh").contiguous();
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    const CenterBox x = row(a, i), y = row(b, i);
    EXPECT_NEAR(iou(to_corners(x), to_corners(y)), at(v, "iou")[i].item<float>(), 1e-5);
    float unused[4];
    EXPECT_NEAR(ciou_with_gradient(x, y, unused), at(v, "ciou")[i].item<float>(), 1e-5);
  }
}

TEST(BoxVectors, BoxesFoundInASampleComeBackToTheOriginalImage) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/letterbox_boxes.pt");
  const TensorMap v = load_tensors(path);
  const auto before = at(v, "scale_in").contiguous();
  const auto after = at(v, "scale_out_96x128_to_200x150").contiguous();
  const Placement placement{.original_width = 150,
                            .original_height = 200,
                            .scale_x = 0.48f,
                            .scale_y = 0.48f,
                            .pad_x = 28,
                            .pad_y = 0};
  for (std::int64_t i = 0; i < before.size(0); ++i) {
    const float* p = before.data_ptr<float>() + i * 4;
    const float* q = after.data_ptr<float>() + i * 4;
    const BoxF box = to_original({p[0], p[1], p[2], p[3]}, placement);
    EXPECT_NEAR(box.x1, q[0], 2e-3);
    EXPECT_NEAR(box.y1, q[1], 2e-3);
    EXPECT_NEAR(box.x2, q[2], 2e-3);
    EXPECT_NEAR(box.y2, q[3], 2e-3);
  }
}

}  // namespace
}  // namespace brim::test
