#include "brim/train/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "brim/cache/error.h"
#include "brim/train/cpu_allocator.h"
#include "support/test_data.h"

namespace {
using brim::Checkpoint;
using brim::test::TempDir;

Checkpoint sample() {
  torch::manual_seed(3);
  Checkpoint checkpoint;
  checkpoint.info.network = "tiny";
  checkpoint.info.class_names = {"cat", "dög"};
  checkpoint.info.epoch = 7;
  checkpoint.info.best_fitness = 0.1 + 0.2;
  checkpoint.info.seed = 0xFFFFFFFFFFFFFFFFull;
  checkpoint.model = {
      {"a.weight", torch::randn({4, 3, 2, 2}).contiguous(at::MemoryFormat::ChannelsLast)},
      {"a.count", torch::tensor(5, torch::kLong)}};
  checkpoint.ema = {{"a.weight", torch::randn({4, 3, 2, 2})}};
  checkpoint.optimizer = {{"steps", torch::tensor({1, 2}, torch::kLong)}};
  return checkpoint;
}

std::string checkpoint_error(const std::string& path) {
  try {
    brim::load_checkpoint(path);
  } catch (const brim::Error& error) {
    return error.message();
  }
  return "no error";
}

TEST(Checkpoint, ComesBackAsItWasSaved) {
  const TempDir folder;
  const Checkpoint saved = sample();
  brim::save_checkpoint(folder.file("last.pt"), saved);
  const Checkpoint loaded = brim::load_checkpoint(folder.file("last.pt"));
  EXPECT_EQ(loaded.info.network, "tiny");
  EXPECT_EQ(loaded.info.class_names, saved.info.class_names);
  EXPECT_EQ(loaded.info.epoch, 7);
  EXPECT_EQ(loaded.info.best_fitness, saved.info.best_fitness);
  EXPECT_EQ(loaded.info.seed, saved.info.seed);
  EXPECT_TRUE(loaded.model.at("a.weight").equal(saved.model.at("a.weight")));
  EXPECT_EQ(loaded.model.at("a.count").item<std::int64_t>(), 5);
  EXPECT_TRUE(loaded.ema.at("a.weight").equal(saved.ema.at("a.weight")));
  EXPECT_TRUE(loaded.gradients.empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Checkpoint, CopiesOneTensorAtATime) {
  brim::install_cpu_allocator();
  const TempDir folder;
  Checkpoint saved = sample();
  for (int i = 0; i < 8; ++i)
    saved.model["b" + std::to_string(i)] =
        torch::randn({64, 64, 8, 8}).contiguous(at::MemoryFormat::ChannelsLast);
  brim::reset_allocator_peaks();
  const std::int64_t before = brim::allocator_statistics().live;
  brim::save_checkpoint(folder.file("last.pt"), saved);
  const std::int64_t one = saved.model.at("b0").nbytes();
  EXPECT_GE(brim::allocator_statistics().peak_live - before, one);
  EXPECT_LT(brim::allocator_statistics().peak_live - before, 2 * one);
  EXPECT_TRUE(
      brim::load_checkpoint(folder.file("last.pt")).model.at("b7").equal(saved.model["b7"]));
}

TEST(Checkpoint, IsAPlainDictForPickleLoad) {
  const TempDir folder;
  brim::save_checkpoint(folder.file("last.pt"), sample());
  const std::string bytes = brim::test::read_file(folder.file("last.pt"));
  const auto dict = torch::pickle_load({bytes.begin(), bytes.end()}).toGenericDict();
  EXPECT_TRUE(dict.at("model").toGenericDict().at("a.weight").isTensor());
}

TEST(Checkpoint, CutShortIsAnErrorAtEveryLength) {
  const TempDir folder;
  brim::save_checkpoint(folder.file("last.pt"), sample());
  const std::string bytes = brim::test::read_file(folder.file("last.pt"));
  for (std::size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 23) {
    brim::test::write_file(folder.file("cut.pt"), bytes.substr(0, length));
    EXPECT_TRUE(checkpoint_error(folder.file("cut.pt"))
                    .starts_with("the checkpoint is damaged or cut short"))
        << length << ": " << checkpoint_error(folder.file("cut.pt"));
  }
}

TEST(Checkpoint, AFlippedBitInAWeightIsAnError) {
  const TempDir folder;
  const Checkpoint saved = sample();
  brim::save_checkpoint(folder.file("last.pt"), saved);
  std::string bytes = brim::test::read_file(folder.file("last.pt"));
  const torch::Tensor weight = saved.model.at("a.weight").contiguous();
  const std::string needle(static_cast<const char*>(weight.data_ptr()), weight.nbytes());
  const std::size_t at = bytes.find(needle);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 17] = static_cast<char>(bytes[at + 17] ^ 4);
  brim::test::write_file(folder.file("bad.pt"), bytes);
  EXPECT_TRUE(checkpoint_error(folder.file("bad.pt"))
                  .starts_with("the checkpoint is damaged or cut short"));
}

TEST(Checkpoint, AnotherFormatIsRefusedByItsNumber) {
  const TempDir folder;
  c10::impl::GenericDict file(c10::StringType::get(), c10::AnyType::get());
  file.insert("brim", c10::IValue(std::string("{\"format\": 99}")));
  const std::vector<char> bytes = torch::pickle_save(c10::IValue(file));
  brim::write_file_atomically(folder.file("new.pt"), bytes.data(), bytes.size());
  EXPECT_EQ(checkpoint_error(folder.file("new.pt")), "checkpoint format 99, this program reads 1");
}

TEST(Checkpoint, AStateDictIsNotMistakenForOne) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/yolov5n_nc3_state_dict.pt");
  EXPECT_EQ(checkpoint_error(path), "not a checkpoint of brim's: it has no entry 'brim'");
}

TEST(Checkpoint, AMissingFileIsNamed) {
  try {
    brim::load_checkpoint("/nonexistent/last.pt");
    FAIL() << "no error";
  } catch (const brim::Error& error) {
    EXPECT_EQ(std::string(error.what()).find("/nonexistent/last.pt: cannot open checkpoint"), 0u);
  }
}

TEST(Checkpoint, AFolderThatIsNotThereIsAnError) {
  EXPECT_THROW(brim::save_checkpoint("/nonexistent/last.pt", sample()), brim::Error);
}

TEST(Checkpoint, StrippedKeepsTheAveragesAsTheModel) {
  const TempDir folder;
  Checkpoint saved = sample();
  brim::save_checkpoint(folder.file("best.pt"), saved);
  brim::strip_checkpoint(folder.file("best.pt"), folder.file("best.pt"));
  const Checkpoint stripped = brim::load_checkpoint(folder.file("best.pt"));
  EXPECT_TRUE(stripped.model.at("a.weight").equal(saved.ema.at("a.weight")));
  EXPECT_TRUE(stripped.optimizer.empty());
}
}  // namespace
