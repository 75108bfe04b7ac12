// Sets far larger than any on this disk: what they cost before the first picture is decoded.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "brim/cache/process_memory.h"
#include "brim/dataloader/loader.h"
#include "brim/dataloader/sampler.h"
#include "dataloader/src/dataset_index.h"
#include "support/allocations.h"
#include "support/fake_data.h"

namespace brim {
namespace {

/// A hundred million samples of one picture.
class Vast final : public Dataset {
 public:
  std::int64_t size() const override { return 100'000'000; }
  Record record(std::int64_t, RecordScratch&) const override {
    Record record;
    record.memory = bytes_;
    record.encoding = Encoding::RawGray;
    record.width = record.height = 4;
    return record;
  }
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t) const override { return {}; }

 private:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(16);
  std::vector<std::string> names_{};
};

TEST(Scale, TenMillionRecordsTake640MegabytesAndTheirShuffleNothing) {
  constexpr std::int64_t kSamples = 10'000'000;
  const std::int64_t before = resident_bytes();
  detail::SampleIndex index;
  const std::uint32_t folder = index.add_directory("/data/some/folder/images/train");
  char name[32];
  for (std::int64_t i = 0; i < kSamples; ++i) {
    std::snprintf(name, sizeof name, "%016d.jpeg", static_cast<int>(i));
    index.add(folder, name);
  }
  index.shrink_to_fit();
  const std::int64_t indexed = resident_bytes();
  EXPECT_LE(index.sample_bytes(), 64u * kSamples);
  if (test::counts_allocations()) {  // sanitizers keep shadows of their own
    EXPECT_LE(indexed - before, 64 * kSamples);
  }

  const auto sampler = make_shuffle_sampler(kSamples, 1);
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < kSamples; i += 10) sum += sampler->at(3, i);
  EXPECT_GT(sum, 0);
  EXPECT_LE(resident_bytes() - indexed, std::int64_t{1} << 20);
}

TEST(Scale, AnyBatchOfAHundredMillionSamplesIsThereWithinATenthOfASecond) {
  for (const Partners partners : {Partners::Window, Partners::Uniform}) {
    Loader loader(std::make_shared<Vast>(),
                  std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
                  {.batch_size = 16, .workers = 2, .seed = 3, .partners = partners});
    Generator random(7, Purpose::User);
    std::vector<double> seconds;
    for (int i = 0; i < 21; ++i) {
      const auto batches = static_cast<std::uint64_t>(loader.batches_per_epoch());
      const auto first = static_cast<std::int64_t>(random.below(batches));
      const auto begin = std::chrono::steady_clock::now();
      loader.start(i, first);
      ASSERT_TRUE(loader.next().has_value());
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      seconds.push_back(waited.count());
    }
    std::sort(seconds.begin(), seconds.end());
    EXPECT_LT(seconds[seconds.size() / 2], 0.1);
  }
}

}  // namespace
}  // namespace brim
