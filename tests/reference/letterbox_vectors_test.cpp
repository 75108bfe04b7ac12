#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "brim/dataloader/letterbox.h"
#include "support/reference.h"

namespace brim {
namespace {

using nlohmann::json;

std::vector<json> cases(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in).get<std::vector<json>>();
}

LetterboxGeometry geometry_of(const json& one) {
  const auto shape = one["shape"].get<std::vector<int>>();  // height, width
  const json& wanted = one["new_shape"];
  const Size size = wanted.is_array() ? Size{wanted[1].get<int>(), wanted[0].get<int>()}
                                      : Size{wanted.get<int>(), wanted.get<int>()};
  LetterboxOptions options{.fill = LetterboxFill::Stride};
  const json& given = one["options"];
  if (!given.value("auto", true)) options.fill = LetterboxFill::Fixed;
  if (given.value("scaleFill", false)) options.fill = LetterboxFill::Stretch;
  if (!given.value("scaleup", true)) options.scale = LetterboxScale::ReduceOnly;
  options.stride = given.value("stride", 32);
  return letterbox_geometry({shape[1], shape[0]}, size, options);
}

TEST(LetterboxVectors, GeometryAndPixelsAreThose) {
  BRIM_TEST_DATA_OR_SKIP(geometry_file, "reference/yolov5/letterbox.json");
  BRIM_TEST_DATA_OR_SKIP(tensor_file, "reference/yolov5/letterbox_boxes.pt");
  const test::TensorMap tensors = test::load_tensors(tensor_file);
  const std::vector<json> all = cases(geometry_file);
  ASSERT_FALSE(all.empty());
  BilinearResizer resizer;
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].dump());
    const LetterboxGeometry g = geometry_of(all[i]);
    EXPECT_DOUBLE_EQ(g.ratio_x, all[i]["ratio"][0].get<double>());
    EXPECT_DOUBLE_EQ(g.ratio_y, all[i]["ratio"][1].get<double>());
    EXPECT_DOUBLE_EQ(g.pad_x, all[i]["pad"][0].get<double>());
    EXPECT_DOUBLE_EQ(g.pad_y, all[i]["pad"][1].get<double>());
    ASSERT_EQ(g.out.height, all[i]["out"][0].get<int>());
    ASSERT_EQ(g.out.width, all[i]["out"][1].get<int>());
    const torch::Tensor in = test::at(tensors, "in_" + std::to_string(i)).contiguous();
    const torch::Tensor expected = test::at(tensors, "out_" + std::to_string(i));
    torch::Tensor found = torch::zeros_like(expected).contiguous();
    const auto width = static_cast<int>(in.size(1)), height = static_cast<int>(in.size(0));
    letterbox_pixels({in.data_ptr<std::uint8_t>(), width, height, std::ptrdiff_t{3} * width}, g,
                     resizer,
                     {found.data_ptr<std::uint8_t>(), g.out.width, g.out.height,
                      std::ptrdiff_t{3} * g.out.width});
    const auto off = (found.to(torch::kInt) - expected.to(torch::kInt)).abs();
    EXPECT_EQ(off.max().item<int>(), 0) << off.gt(0).sum().item<std::int64_t>() << " values differ";
  }
}

TEST(LetterboxVectors, BoxesConvertAndComeBack) {
  BRIM_TEST_DATA_OR_SKIP(tensor_file, "reference/yolov5/letterbox_boxes.pt");
  const test::TensorMap tensors = test::load_tensors(tensor_file);
  const auto fractions = test::at(tensors, "xywhn").accessor<float, 2>();
  const auto corners = test::at(tensors, "xyxy_w640_h480_pad_7_5").accessor<float, 2>();
  const auto back = test::at(tensors, "back_clipped").accessor<float, 2>();
  const auto scale_in = test::at(tensors, "scale_in").accessor<float, 2>();
  const auto scale_out = test::at(tensors, "scale_out_96x128_to_200x150").accessor<float, 2>();
  for (std::int64_t i = 0; i < fractions.size(0); ++i) {
    SCOPED_TRACE(testing::Message() << "box " << i);
    const auto f = fractions[i];
    const BoxF box = box_to_pixels(f[0], f[1], f[2], f[3], {640, 480}, 7, 5);
    EXPECT_NEAR(box.x1, corners[i][0], 1e-3);
    EXPECT_NEAR(box.y1, corners[i][1], 1e-3);
    EXPECT_NEAR(box.x2, corners[i][2], 1e-3);
    EXPECT_NEAR(box.y2, corners[i][3], 1e-3);
    // Back over the padded picture: 7 and 5 pixels on both sides.
    const Target target = box_to_fractions(box, {654, 490}, 1e-3f);
    EXPECT_NEAR(target.cx, back[i][0], 1e-5);
    EXPECT_NEAR(target.cy, back[i][1], 1e-5);
    EXPECT_NEAR(target.width, back[i][2], 1e-5);
    EXPECT_NEAR(target.height, back[i][3], 1e-5);
  }
  for (std::int64_t i = 0; i < scale_in.size(0); ++i) {
    SCOPED_TRACE(testing::Message() << "scaled box " << i);
    const auto in = scale_in[i];
    const BoxF box = unletterbox_box({in[0], in[1], in[2], in[3]}, {128, 96}, {150, 200});
    EXPECT_NEAR(box.x1, scale_out[i][0], 1e-3);
    EXPECT_NEAR(box.y1, scale_out[i][1], 1e-3);
    EXPECT_NEAR(box.x2, scale_out[i][2], 1e-3);
    EXPECT_NEAR(box.y2, scale_out[i][3], 1e-3);
  }
}

TEST(LetterboxVectors, TheSameBoxesAreKept) {
  BRIM_TEST_DATA_OR_SKIP(tensor_file, "reference/yolov5/letterbox_boxes.pt");
  const test::TensorMap tensors = test::load_tensors(tensor_file);
  const auto before = test::at(tensors, "candidate_before").accessor<float, 2>();
  const auto after = test::at(tensors, "candidate_after").accessor<float, 2>();
  const torch::Tensor keep = test::at(tensors, "candidate_keep");
  for (std::int64_t i = 0; i < keep.size(0); ++i) {
    const auto box = [i](const auto& rows) {
      return BoxF{rows[0][i], rows[1][i], rows[2][i], rows[3][i]};
    };
    EXPECT_EQ(keep_box(box(before), box(after)), keep[i].item<bool>()) << "box " << i;
  }
}

}  // namespace
}  // namespace brim
