#include "brim/train/weights.h"

#include <caffe2/serialize/inline_container.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "brim/cache/error.h"
#include "brim/train/network.h"
#include "support/test_data.h"

namespace brim {
namespace {

using ::testing::HasSubstr;
using torch::Tensor;

std::shared_ptr<Network> small_network(int classes = 2) {
  return make_network({.model = "yolov5n", .classes = classes});
}

void randomise(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : state_dict(module))
    if (tensor.is_floating_point()) Tensor(tensor).uniform_(-1, 1);
}

std::string reading_error(const std::string& path) {
  const auto network = small_network();
  try {
    load_weights(*network, path);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

void save_value(const torch::IValue& value, const std::string& path) {
  const auto bytes = torch::pickle_save(value);
  test::write_file(path, std::string(bytes.begin(), bytes.end()));
}

TEST(Weights, RoundTripIsExact) {
  const test::TempDir dir;
  const auto from = small_network();
  randomise(*from);
  save_state_dict(*from, dir.file("w.pt"));
  const auto to = small_network();
  const TransferReport report = load_weights(*to, dir.file("w.pt"));
  const auto a = state_dict(*from);
  const auto b = state_dict(*to);
  EXPECT_EQ(report.transferred_tensors, static_cast<std::int64_t>(a.size()));
  EXPECT_DOUBLE_EQ(report.share(), 1.0);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].second.equal(b[i].second));
  for (const auto& parameter : to->parameters())
    if (parameter.dim() == 4) {
      EXPECT_TRUE(parameter.is_contiguous(torch::MemoryFormat::ChannelsLast));
    }
}

TEST(Weights, TransferToAnotherClassCountKeepsWhatFits) {
  const test::TempDir dir;
  const auto from = small_network(2);
  save_state_dict(*from, dir.file("w.pt"));
  const auto to = small_network(5);
  const TransferReport report = load_weights(*to, dir.file("w.pt"));
  EXPECT_EQ(report.transferred_tensors, 343);
  EXPECT_THAT(
      report.other_shape,
      ::testing::ElementsAre("model.24.m.0.weight", "model.24.m.0.bias", "model.24.m.1.weight",
                             "model.24.m.1.bias", "model.24.m.2.weight", "model.24.m.2.bias"));
  EXPECT_GT(report.share(), 0.98);
  EXPECT_THAT(report.summary(), HasSubstr("6 of another shape, 0 missing, 0 not used"));
}

TEST(Weights, InsideCheckpointsAndWithPrefixesAreFound) {
  const test::TempDir dir;
  const auto from = small_network();
  randomise(*from);
  c10::Dict<std::string, Tensor> inner;
  for (const auto& [name, tensor] : state_dict(*from))
    inner.insert(
        "module." + name,
        tensor.detach().to(tensor.is_floating_point() ? torch::kHalf : tensor.scalar_type()));
  for (const char* key : {"ema", "model", "state_dict", "model_state_dict"}) {
    c10::impl::GenericDict outer(c10::StringType::get(), c10::AnyType::get());
    outer.insert("epoch", 3);
    outer.insert(key, inner);
    save_value(outer, dir.file("w.pt"));
    const auto to = small_network();
    EXPECT_DOUBLE_EQ(load_weights(*to, dir.file("w.pt")).share(), 1.0) << key;
    const auto a = state_dict(*from);
    const auto b = state_dict(*to);
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(torch::allclose(a[i].second, b[i].second, 1e-3, 1e-3)) << a[i].first;
  }
}

TEST(Weights, OfAnotherArchitectureAreRefusedAndChangeNothing) {
  const test::TempDir dir;
  save_state_dict(*make_network({.model = "resnet18", .classes = 10}), dir.file("r.pt"));
  save_state_dict(*make_network({.model = "yolov5s", .classes = 2}), dir.file("s.pt"));
  for (const char* file : {"r.pt", "s.pt"}) {
    const auto network = small_network();
    const Tensor before = state_dict(*network)[0].second.detach().clone();
    try {
      load_weights(*network, dir.file(file));
      FAIL() << file;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("another architecture"));
      EXPECT_THAT(e.what(), HasSubstr(dir.file(file)));
    }
    EXPECT_TRUE(before.equal(state_dict(*network)[0].second));
  }
}

TEST(Weights, ThatAreCutShortOrDamagedAreRefused) {
  const test::TempDir dir;
  const std::string path = dir.file("w.pt");
  save_state_dict({{"a", torch::rand({400})}, {"b", torch::rand({7})}}, path);
  const std::string good = test::read_file(path);
  for (std::size_t length = 0; length < good.size(); length += 97) {
    test::write_file(path, good.substr(0, length));
    EXPECT_THROW(read_state_dict(path), Error) << length;
  }
  std::size_t refused = 0;
  std::size_t tried = 0;
  for (std::size_t at = 0; at < good.size(); at += 13, ++tried) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    test::write_file(path, bad);
    try {
      const StateDict state = read_state_dict(path);
      // What is still accepted differs in padding alone.
      ASSERT_EQ(state.size(), 2U) << at;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, tried / 2);
  test::write_file(path, good);
  EXPECT_EQ(read_state_dict(path).size(), 2U);
}

TEST(Weights, FlippedBitInATensorIsFoundByItsChecksum) {
  const test::TempDir dir;
  const std::string path = dir.file("w.pt");
  const Tensor values = torch::full({64}, 0.123F);
  save_state_dict({{"a", values}}, path);
  std::string bytes = test::read_file(path);
  const std::string raw(static_cast<const char*>(values.data_ptr()), 64 * 4);
  const auto at = bytes.find(raw);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 100] = static_cast<char>(bytes[at + 100] ^ 1);
  test::write_file(path, bytes);
  EXPECT_THAT(reading_error(path), HasSubstr("checksum"));
}

TEST(Weights, MissingFilesAndOtherFormatsAreNamed) {
  const test::TempDir dir;
  EXPECT_THAT(reading_error(dir.file("none.pt")), HasSubstr("cannot read the weights"));
  EXPECT_THAT(reading_error(dir.path().string()), HasSubstr("is a folder"));
  test::write_file(dir.file("text.pt"), "these are no weights");
  EXPECT_THAT(reading_error(dir.file("text.pt")), HasSubstr("is no PyTorch file"));
  test::write_file(dir.file("old.pt"), std::string("\x80\x02\x8a\x0a", 4));
  EXPECT_THAT(reading_error(dir.file("old.pt")), HasSubstr("before 1.6"));
  save_value(torch::IValue(std::vector<std::int64_t>{1, 2}), dir.file("list.pt"));
  EXPECT_THAT(reading_error(dir.file("list.pt")), HasSubstr("expected a dictionary of tensors"));
}

/// A pickle as Python writes it for a model object: {"model": DetectionModel()}.
TEST(Weights, PickledModelObjectShowsTheConversion) {
  const test::TempDir dir;
  const std::string path = dir.file("object.pt");
  const std::string pickle = std::string("\x80\x02}q\x00X\x05\x00\x00\x00model", 15) +
                             "cmodels.yolo\nDetectionModel\n)\x81}bs.";
  caffe2::serialize::PyTorchStreamWriter writer(path);
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  writer.writeEndOfFile();
  const std::string message = reading_error(path);
  EXPECT_THAT(message, HasSubstr("holds a Python object (models.yolo.DetectionModel)"));
  EXPECT_THAT(message, HasSubstr("hint: convert it once"));
  EXPECT_THAT(message, HasSubstr("torch.save(m.float().state_dict(), '" +
                                 dir.file("object_state.pt") + "')"));
}

TEST(Weights, AreWrittenAtomicallyOrNotAtAll) {
  const test::TempDir dir;
  const std::string path = dir.file("w.pt");
  save_state_dict({{"a", torch::zeros({3})}}, path);
  save_state_dict({{"a", torch::ones({3})}}, path);
  EXPECT_TRUE(read_state_dict(path)[0].second.equal(torch::ones({3})));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  try {
    save_state_dict({{"a", torch::zeros({3})}}, dir.file("no/such/folder/w.pt"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("cannot write"));
  }
}

TEST(Weights, SlicesAreSavedWithoutTheRestOfTheirStorage) {
  const test::TempDir dir;
  const Tensor large = torch::rand({1000, 100});
  save_state_dict({{"a", large[3]}}, dir.file("w.pt"));
  EXPECT_LT(std::filesystem::file_size(dir.file("w.pt")), 4000U);
  EXPECT_TRUE(read_state_dict(dir.file("w.pt"))[0].second.equal(large[3]));
}

}  // namespace
}  // namespace brim
