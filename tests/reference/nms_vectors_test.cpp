#include <gtest/gtest.h>

#include "brim/train/nms.h"
#include "support/reference.h"

namespace brim::test {
namespace {

void expect_detections(const TensorMap& v, const std::string& name, const NmsOptions& options) {
  const auto found = non_maximum_suppression(at(v, "prediction"), options);
  for (std::size_t image = 0; image < found.size(); ++image) {
    const auto& expected = at(v, name + "_" + std::to_string(image));
    ASSERT_EQ(static_cast<std::int64_t>(found[image].size()), expected.size(0)) << name;
    for (std::size_t i = 0; i < found[image].size(); ++i) {
      const Detection& d = found[image][i];
      const auto row = expected[static_cast<std::int64_t>(i)];
      const float actual[] = {d.box.x1, d.box.y1, d.box.x2, d.box.y2, d.confidence};
      for (int j = 0; j < 5; ++j) {
        ASSERT_FLOAT_EQ(actual[j], row[j].item<float>()) << name << " row " << i << " value " << j;
      }
      ASSERT_EQ(d.class_id, row[5].item<int>()) << name << " row " << i;
    }
  }
}

TEST(NmsVectors, SameDetectionsInTheSameOrder) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/nms.pt");
  const TensorMap v = load_tensors(path);
  expect_detections(v, "default", {});
  expect_detections(v, "val", {.confidence = 0.001, .iou = 0.6, .multi_label = true});
  expect_detections(v, "agnostic", {.agnostic = true});
  expect_detections(v, "maxdet", {.max_detections = 7});
}

}  // namespace
}  // namespace brim::test
