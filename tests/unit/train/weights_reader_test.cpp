// Pickles that torch.save writes, and pickles that nobody should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "brim/cache/error.h"
#include "support/test_data.h"
#include "support/zip_files.h"
#include "train/src/weights_archive.h"

namespace brim {
namespace {

using ::testing::HasSubstr;
using torch::Tensor;

constexpr std::int64_t kFar = std::int64_t{1} << 62;

std::string little_endian(std::int64_t value, unsigned width) {
  std::string text;
  for (unsigned i = 0; i < width; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}
std::string text(const std::string& value) {
  return "X" + little_endian(static_cast<std::int64_t>(value.size()), 4) + value;
}
std::string number(std::int64_t value) {
  return "\x8a\x08" + little_endian(value, 8);
}
std::string numbers(const std::vector<std::int64_t>& values) {
  std::string result = "(";
  for (const std::int64_t value : values) result += number(value);
  return result + "t";
}

struct Made {
  std::string storage = "torch\nFloatStorage";
  std::string record = "0";
  std::int64_t elements = 6;
  std::int64_t offset = 0;
  std::vector<std::int64_t> sizes{2, 3};
  std::vector<std::int64_t> strides{3, 1};
};

std::string tensor(const Made& made) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "c" + made.storage + "\n" +
         text(made.record) + text("cpu") + number(made.elements) + "tQ" + number(made.offset) +
         numbers(made.sizes) + numbers(made.strides) + "\x89}tR";
}

/// Parses `pickle` in an archive whose only storage holds the floats 0 to 5.
StateDict parse(const std::string& pickle) {
  const Tensor values = torch::arange(6, torch::kFloat);
  const std::string archive = test::zip_archive(
      {{"w/data.pkl", pickle},
       {"w/data/0", std::string(static_cast<const char*>(values.data_ptr()), 24)}});
  return detail::parse_state_dict({archive.begin(), archive.end()}, "w.pt");
}

/// A state_dict that holds `value` under "a".
std::string dict_of(const std::string& value) {
  return "\x80\x02}" + text("a") + value + "s.";
}

std::string parsing_error(const std::string& pickle) {
  try {
    parse(pickle);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Name, shape and sum of each tensor, as tests/reference/files/make writes them.
void expect_sums(const std::string& name) {
  SCOPED_TRACE(name);
  const std::string stem = test::source_dir() + "/tests/reference/files/" + name;
  const StateDict state = read_state_dict(stem + ".pt");
  std::istringstream lines(test::read_file(stem + ".sums"));
  std::size_t count = 0;
  std::string key, shape;
  for (double sum = 0; lines >> key >> shape >> sum; ++count) {
    ASSERT_LT(count, state.size());
    std::string found;
    for (const auto side : state[count].second.sizes())
      found += (found.empty() ? "" : "x") + std::to_string(side);
    EXPECT_EQ(state[count].first, key);
    EXPECT_EQ(found.empty() ? "-" : found, shape) << key;
    EXPECT_NEAR(state[count].second.to(torch::kDouble).sum().item<double>(), sum,
                1e-9 * std::abs(sum))
        << key;
  }
  EXPECT_EQ(count, state.size());
}

TEST(WeightsReader, ReadsTheOrderedDictThatPythonWrites) {
  expect_sums("state_dict");
}

TEST(WeightsReader, ReadsTheWeightsOfATrainersCheckpointAmidOptimiserAndObjects) {
  expect_sums("checkpoint_protocol4");
}

TEST(WeightsReader, ReadsViewsSharedStoragesParametersAndEveryType) {
  expect_sums("views_protocol5");
  const StateDict state =
      read_state_dict(test::source_dir() + "/tests/reference/files/views_protocol5.pt");
  std::map<std::string, Tensor> views(state.begin(), state.end());
  const Tensor base = torch::arange(24, torch::kFloat).reshape({4, 6});
  EXPECT_TRUE(views.at("row").equal(base[2]));
  EXPECT_TRUE(views.at("transposed").equal(base.t()));
  EXPECT_TRUE(views.at("row").is_alias_of(views.at("base")));
  EXPECT_EQ(views.at("half").scalar_type(), torch::kHalf);
  EXPECT_EQ(views.at("bool").scalar_type(), torch::kBool);
  EXPECT_TRUE(views.at("last").is_contiguous(torch::MemoryFormat::ChannelsLast));
}

TEST(WeightsReader, ReadsAPlainTensor) {
  const StateDict state = parse(dict_of(tensor({})));
  ASSERT_EQ(state.size(), 1U);
  EXPECT_TRUE(state[0].second.equal(torch::arange(6, torch::kFloat).view({2, 3})));
}

TEST(WeightsReader, TheLastOfEqualNamesHolds) {
  const StateDict state = parse("}(" + text("a") + tensor({}) + text("a") +
                                tensor({.sizes = {1}, .strides = {1}}) + "u.");
  ASSERT_EQ(state.size(), 1U);
  EXPECT_EQ(state[0].second.numel(), 1);
}

TEST(WeightsReader, RefusesTensorsOutsideTheirStorage) {
  const std::string beyond = "a tensor reaches beyond the end of 'data/0'";
  EXPECT_THAT(parsing_error(dict_of(tensor({.offset = 1}))), HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {2, 4}}))), HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.strides = {4, 1}}))), HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.elements = 5}))), HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.elements = kFar, .sizes = {7}, .strides = {1}}))),
              HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.storage = "torch\nDoubleStorage"}))),
              HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.offset = 7, .sizes = {0}, .strides = {1}}))),
              HasSubstr(beyond));
  EXPECT_THAT(parsing_error(dict_of(tensor({.record = "1"}))),
              HasSubstr("'data/1' of a tensor is missing"));
  EXPECT_THAT(parsing_error(dict_of(tensor({.record = "../data.pkl"}))), HasSubstr("is missing"));
}

TEST(WeightsReader, RefusesImpossibleShapes) {
  const std::string negative = "a size or stride below zero", huge = "beyond all measure";
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {-1, 3}}))), HasSubstr(negative));
  EXPECT_THAT(parsing_error(dict_of(tensor({.strides = {-3, 1}}))), HasSubstr(negative));
  EXPECT_THAT(parsing_error(dict_of(tensor({.offset = -1}))), HasSubstr("has no shape"));
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {6}}))), HasSubstr("has no shape"));
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {kFar, kFar}}))), HasSubstr(huge));
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {kFar, kFar}, .strides = {0, 0}}))),
              HasSubstr(huge));
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = {3, 3}, .strides = {kFar, 1}}))),
              HasSubstr(huge));
  const std::vector<std::int64_t> many(65, 1);
  EXPECT_THAT(parsing_error(dict_of(tensor({.sizes = many, .strides = many}))),
              HasSubstr("has no shape"));
}

TEST(WeightsReader, RefusesPicklesThatAreNone) {
  const std::map<std::string, std::string> cases{
      {"", "ends too early"},
      {"\x80\x02}", "ends too early"},
      {"\x80\x09}.", "unknown protocol"},
      {"}}.", "ends too early"},
      {"(}.", "ends too early"},
      {".", "empty stack"},
      {"(.", "empty stack"},
      {"}t.", "lacks a mark"},
      {"}(0.", "empty stack"},
      {"}q\x01h\x02.", "refers to a value it does not have"},
      {"q\x01.", "empty stack"},
      {"](K\x01u.", "adds to something that is no such container"},
      {"}(K\x01u.", "adds to something that is no such container"},
      {")K\x01"
       "a.",
       "adds to something that is no such container"},
      {"X\xFF\xFF\xFF\x7F"
       "abc.",
       "ends too early"},
      {"\x8B\xFF\xFF\xFF\xFF"
       "abc.",
       "ends too early"},
      {"ctorch", "ends inside a name"},
      {"NN\x93.", "names a class by something else than text"},
      {"NNR.", "a call has no arguments"},
      {"\xFF.", "an instruction of no known meaning, 0xff"},
      {"I12\n.", "an instruction of no known meaning, 0x49"},
      {std::string("\x82\x01."), "no known meaning, 0x82"},
      {std::string(9'000'000, '('), "grows without end"},
      {"N" + std::string(9'000'000, '2'), "grows without end"}};
  for (const auto& [pickle, expected] : cases)
    EXPECT_THAT(parsing_error(pickle), HasSubstr(expected)) << pickle.substr(0, 20);
}

TEST(WeightsReader, TensorsMadeOfOtherThingsAreDamage) {
  const std::string made = "ctorch._utils\n_rebuild_tensor_v2\n";
  for (const char* arguments : {")", "(NK\x00))t", "(K\x01K\x00))t", "(NNNNNNt"})
    EXPECT_THAT(parsing_error(dict_of(made + arguments + "R")), HasSubstr("cut short or damaged"))
        << arguments;
}

TEST(WeightsReader, DepthAndLoopsCostNothing) {
  const std::string deep = std::string(1'000'000, ']') + std::string(999'999, 'a');
  EXPECT_EQ(parse("}(" + text("a") + tensor({}) + text("deep") + deep + "u.").size(), 1U);
  // d["model"] = d
  EXPECT_THAT(parsing_error("}q\x01" + text("model") + "h\x01s."),
              HasSubstr("holds no tensors by name"));
  EXPECT_THAT(parsing_error("]q\x01h\x01"
                            "a."),
              HasSubstr("holds a list, expected a dictionary"));
}

TEST(WeightsReader, WhatIsUsedAgainAndAgainIsNotCopiedWithoutEnd) {
  const auto repeated = [](const std::string& callable, const std::string& arguments, int times) {
    std::string pickle = callable + "q\x01" + arguments + "q\x02" + "00";
    for (int i = 0; i < times; ++i) pickle += "h\x01h\x02R0";
    return pickle + "}.";
  };
  std::string pairs = "](";
  for (int i = 0; i < 1000; ++i) pairs += ")K\x01\x86";
  const std::string many(2000, 'N');
  EXPECT_THAT(parsing_error(repeated("ccollections\nOrderedDict\n", pairs + "e\x85", 6000)),
              HasSubstr("copies more values"));
  EXPECT_THAT(
      parsing_error(repeated("ctorch._utils\n_rebuild_tensor_v2\n", "(" + many + "t", 6000)),
      HasSubstr("copies more values"));
}

TEST(WeightsReader, ObjectsAreNamedAndNeverMade) {
  const std::string call = "cos\nsystem\n(" + text("exit 1") + "tR";
  EXPECT_THAT(parsing_error(call + "."), HasSubstr("holds a Python object (os.system)"));
  EXPECT_THAT(parsing_error("}(" + text("ema") + "N" + text("model") + call + "u."),
              HasSubstr("holds a Python object (os.system), expected a state_dict"));
  // Beside the weights they do no harm.
  EXPECT_EQ(parse("}(" + text("args") + call + text("a") + tensor({}) + "u.").size(), 1U);
}

TEST(WeightsReader, OtherArchivesAndTypesAreNamed) {
  const auto message = [](const std::vector<std::pair<std::string, std::string>>& members) {
    const std::string archive = test::zip_archive(members);
    try {
      detail::parse_state_dict({archive.begin(), archive.end()}, "w.pt");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({{"a.npy", "x"}}), HasSubstr("w.pt: is no PyTorch file, but a zip archive"));
  EXPECT_THAT(message({{"w/data.pkl", "}."}, {"w/byteorder", "big"}}), HasSubstr("byte order"));
  EXPECT_THAT(parsing_error(dict_of(tensor({.storage = "torch\nQInt8Storage"}))),
              HasSubstr("w.pt: holds tensors of torch.QInt8Storage, which brim does not know"));
}

}  // namespace
}  // namespace brim
