#include "brim/train/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "brim/cache/error.h"
#include "brim/train/weights.h"
#include "support/test_data.h"

namespace brim {
namespace {

using ::testing::HasSubstr;

std::string message_of(const NetworkOptions& options) {
  try {
    make_network(options);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(MakeNetwork, NamesTheNearestKnownModel) {
  EXPECT_THAT(message_of({.model = "yolov5nn"}), HasSubstr("nearest is 'yolov5n'"));
  EXPECT_THAT(message_of({.model = "resnet19"}), HasSubstr("nearest is 'resnet18'"));
  EXPECT_EQ(known_networks().size(), 14U);
}

TEST(MakeNetwork, RefusesNoClassesAndMissingFiles) {
  EXPECT_THAT(message_of({.model = "yolov5n", .classes = 0}), HasSubstr("at least one class"));
  EXPECT_THAT(message_of({.model = "nowhere/model.yaml"}), HasSubstr("nowhere/model.yaml"));
}

TEST(MakeNetwork, ReadsTheSameFromAUsersFile) {
  const test::TempDir dir;
  const std::string path = dir.file("mine.yaml");
  test::write_file(path, test::read_file(test::source_dir() + "/configs/models/yolov5n.yaml"));
  const auto mine = make_network({.model = path, .classes = 7});
  const auto known = make_network({.model = "yolov5n", .classes = 7});
  EXPECT_EQ(mine->name(), "mine");
  const auto a = state_dict(*mine);
  const auto b = state_dict(*known);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_EQ(a[i].second.sizes(), b[i].second.sizes());
  }
}

TEST(ModelYaml, NamesFileLineAndKeyOfWhatIsWrong) {
  const std::string good = test::read_file(test::source_dir() + "/configs/models/yolov5n.yaml");
  struct Case {
    std::string from, to, expected;
  };
  const std::vector<Case> cases{
      {"depth_multiple: 0.33", "depth_multiple: many", ":3: depth_multiple: expected a number"},
      {"width_multiple", "widht_multiple", "widht_multiple: unknown key"},
      {"nc: 80", "nc: 0", ":2: nc: expected at least one class"},
      {"- [10, 13, 16, 30, 33, 23]", "- [10, 13, 16, 30, 33]", "pairs of width and height"},
      {"  - [10, 13, 16, 30, 33, 23] # stride 8\n", "", "but there are anchors for 2 levels"},
      {"[-1, 3, C3, [128]]", "[-1, 3, C4, [128]]", "unknown module 'C4'"},
      {"[-1, 3, C3, [128]]", "[-1, 3, C3]", ":15: backbone: expected a row of 4 entries"},
      {"[-1, 3, C3, [128]]", "[5, 3, C3, [128]]", "it can only read rows before it"},
      {"[-1, 3, C3, [128]]", "[-1, 0, C3, [128]]", "expected a count of 1 to 1000"},
      {"[-1, 3, C3, [128]]", "[-1, 3, C3, [wide]]", "argument 1 is 'wide'"},
      {"[512, False]", "[512, maybe]", "expected True or False"},
      {"[[-1, 6], 1, Concat", "[[-1, 4], 1, Concat", "joins maps of different size"},
      {"nearest]", "bilinear]", "mode 'bilinear' is not supported"},
      {"  - [[17, 20, 23], 1, Detect, [nc, anchors]] # 24\n", "", "the last row is not Detect"},
      {"head:", "head: [", "not valid YAML"},
  };
  const test::TempDir dir;
  const std::string path = dir.file("model.yaml");
  for (const Case& c : cases) {
    std::string text = good;
    const auto at = text.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.from;
    test::write_file(path, text.replace(at, c.from.size(), c.to));
    const std::string message = message_of({.model = path});
    EXPECT_THAT(message, HasSubstr(c.expected));
    EXPECT_THAT(message, HasSubstr(path));
  }
}

TEST(YoloNetwork, HasThePublishedPriorsInItsHead) {
  torch::manual_seed(0);
  const auto network = make_network({.model = "yolov5n", .classes = 80});
  for (const auto& [name, tensor] : state_dict(*network)) {
    if (name != "model.24.m.0.bias") continue;
    const auto bias = tensor.detach().view({3, 85});
    const double bound = 1.0 / std::sqrt(64.0);  // of the default initialisation
    EXPECT_NEAR(bias.select(1, 4).mean().item<double>(), std::log(8.0 / 6400.0), bound);
    EXPECT_NEAR(bias.slice(1, 5).mean().item<double>(), std::log(0.6 / (80 - 0.99999)), bound / 5);
  }
}

TEST(YoloNetwork, SaysWhichImageSizesItTakes) {
  const auto network = make_network({.model = "yolov5n", .classes = 2});
  EXPECT_EQ(network->max_stride(), 32);
  try {
    network->forward(torch::zeros({1, 3, 100, 64}));
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("multiples of 32, found 1x3x100x64"));
  }
}

TEST(YoloNetwork, TakesOtherAnchors) {
  const auto network = make_network({.model = "yolov5n", .classes = 2});
  auto& detector = dynamic_cast<Detector&>(*network);
  const torch::Tensor wished = detector.anchors() * 2;
  detector.set_anchors(wished);
  EXPECT_TRUE(detector.anchors().equal(wished));
  EXPECT_THROW(detector.set_anchors(wished[0]), std::exception);
}

TEST(YoloNetwork, LevelsAreViewsInTrainingAndPredictionsCoverThemInEvaluation) {
  const auto network = make_network({.model = "yolov5n", .classes = 2});
  const torch::Tensor images = torch::rand({2, 3, 64, 96});
  const NetworkOutput training = network->forward(images);
  ASSERT_EQ(training.levels.size(), 3U);
  EXPECT_EQ(training.levels[0].sizes(), (torch::IntArrayRef{2, 3, 8, 12, 7}));
  EXPECT_TRUE(training.levels[0].is_view());
  network->eval();
  torch::NoGradGuard no_grad;
  EXPECT_EQ(network->forward(images).predictions.sizes(),
            (torch::IntArrayRef{2, 3 * (96 + 24 + 6), 7}));
}

TEST(ResNet, HasTorchvisionsCountsAndNames) {
  const std::vector<std::pair<std::string, std::int64_t>> counts{{"resnet18", 11689512},
                                                                 {"resnet34", 21797672},
                                                                 {"resnet50", 25557032},
                                                                 {"resnet101", 44549160}};
  for (const auto& [name, expected] : counts) {
    const auto network = make_network({.model = name, .classes = 1000});
    std::int64_t count = 0;
    for (const auto& parameter : network->parameters()) count += parameter.numel();
    EXPECT_EQ(count, expected) << name;
  }
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state_dict(*make_network({.model = "resnet18", .classes = 10})))
    names.push_back(name);
  EXPECT_EQ(names.size(), 122U);
  EXPECT_EQ(names.front(), "conv1.weight");
  EXPECT_THAT(names, ::testing::IsSupersetOf({"layer2.0.downsample.0.weight",
                                              "layer2.0.downsample.1.running_var",
                                              "layer1.1.bn2.num_batches_tracked"}));
  EXPECT_EQ(names.back(), "fc.bias");
}

TEST(ResNet, StartsWithKaimingFanOut) {
  torch::manual_seed(0);
  const auto state = state_dict(*make_network({.model = "resnet18", .classes = 10}));
  for (const auto& [name, tensor] : state)
    if (name == "layer3.0.conv1.weight") {
      EXPECT_NEAR(tensor.std().item<double>(), std::sqrt(2.0 / (256 * 9)), 2e-4);
    }
}

TEST(ResNet, TakesSmallImages) {
  const auto network = make_network({.model = "resnet18", .classes = 10});
  for (const std::int64_t side : {28, 33, 64}) {
    const auto logits = network->forward(torch::rand({2, 3, side, side})).predictions;
    EXPECT_EQ(logits.sizes(), (torch::IntArrayRef{2, 10}));
  }
}

}  // namespace
}  // namespace brim
