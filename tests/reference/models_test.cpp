#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "brim/train/network.h"
#include "support/reference.h"

namespace brim::test {
namespace {

std::int64_t parameter_count(const torch::nn::Module& module) {
  std::int64_t count = 0;
  for (const auto& parameter : module.parameters()) count += parameter.numel();
  return count;
}

TEST(ReferenceModels, HaveTheOriginalNamesCountsAndStrides) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/models.json");
  std::ifstream in(path);
  const auto models = nlohmann::json::parse(in).at("models");
  ASSERT_EQ(models.size(), 20U);
  for (const auto& [key, expected] : models.items()) {
    SCOPED_TRACE(key);
    const auto cut = key.find("-nc");
    const auto network =
        make_network({.model = key.substr(0, cut), .classes = std::stoi(key.substr(cut + 3))});
    EXPECT_EQ(parameter_count(*network), expected.at("parameters").get<std::int64_t>());
    const auto state = state_of(*network);
    EXPECT_EQ(static_cast<int>(state.size()), expected.at("entries").get<int>());
    const auto first = expected.at("first").get<std::vector<std::string>>();
    const auto last = expected.at("last").get<std::vector<std::string>>();
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(state[i].first, first[i]);
      EXPECT_EQ(state[state.size() - last.size() + i].first, last[i]);
    }
    const auto& detector = dynamic_cast<Detector&>(*network);
    EXPECT_EQ(detector.strides(), expected.at("stride").get<std::vector<double>>());
  }
}

TEST(ReferenceModels, StateDictIsThatOfThePythonProgram) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/yolov5n_nc3_state_dict.pt");
  const std::string bytes = read_file(path);
  const auto dictionary =
      torch::pickle_load(std::vector<char>(bytes.begin(), bytes.end())).toGenericDict();
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  const auto state = state_of(*network);
  ASSERT_EQ(state.size(), dictionary.size());
  std::size_t i = 0;
  for (const auto& entry : dictionary) {
    EXPECT_EQ(state[i].first, entry.key().toStringRef());
    EXPECT_EQ(state[i].second.sizes(), entry.value().toTensor().sizes()) << state[i].first;
    EXPECT_EQ(state[i].second.scalar_type(), entry.value().toTensor().scalar_type());
    ++i;
  }
}

/// Outputs of each variant at 3 classes with the deterministic weights, in both memory layouts of
/// the input.
TEST(ReferenceModels, TrainAndEvalOutputsAgree) {
  const auto variants = reference_variants();
  if (variants.empty()) GTEST_SKIP() << "no reference/yolov5/*_train_eval.pt under BRIM_TEST_DATA";
  for (const auto& variant : variants) {
    SCOPED_TRACE(variant.name);
    const TensorMap expected = load_tensors(variant.path);
    const auto network = make_network({.model = variant.name, .classes = 3});
    fill_weights(*network);
    torch::Tensor input = at(expected, "input");
    {
      torch::NoGradGuard no_grad;
      network->eval();
      const NetworkOutput output = network->forward(input);
      EXPECT_LT(relative_error(output.predictions, at(expected, "eval_decoded")), 1e-4);
      for (std::size_t i = 0; i < output.levels.size(); ++i)
        EXPECT_LT(relative_error(output.levels[i], at(expected, "eval_raw_" + std::to_string(i))),
                  1e-4);
    }
    network->train();
    const NetworkOutput output =
        network->forward(input.contiguous(torch::MemoryFormat::ChannelsLast));
    EXPECT_FALSE(output.predictions.defined());
    for (std::size_t i = 0; i < output.levels.size(); ++i)
      EXPECT_LT(relative_error(output.levels[i], at(expected, "train_raw_" + std::to_string(i))),
                1e-4);
    EXPECT_EQ(expected.count("train_raw_" + std::to_string(output.levels.size())), 0U);
  }
}

}  // namespace
}  // namespace brim::test
