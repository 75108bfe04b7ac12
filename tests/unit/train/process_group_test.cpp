#include "brim/train/process_group.h"

#include <gtest/gtest.h>

#include "brim/cache/error.h"
// What a build without c10d has in its place.
#define connect connect_without_engine
#include "train/src/distributed/connect_missing.cpp"
#undef connect

namespace brim::test {
namespace {

TEST(SingleProcess, IsARankOfOne) {
  const auto group = make_single_process();
  EXPECT_EQ(group->rank(), 0);
  EXPECT_EQ(group->size(), 1);
  const torch::Tensor values = torch::arange(3);
  group->reduce(values, Reduction::Sum);
  group->start_sum(values)->wait();
  EXPECT_TRUE(values.equal(torch::arange(3)));
  EXPECT_TRUE(gather_rows(*group, values).at(0).equal(values));
  EXPECT_EQ(text_of_root(*group, "text"), "text");
  EXPECT_EQ(smallest(*group, 7), 7);
}

TEST(WithoutDistributedEngine, SeveralRanksAreRefusedWithWhatIsMissing) {
  EXPECT_EQ(connect_without_engine({}, {})->size(), 1);
  RankPlace place;
  place.size = 2;
  try {
    connect_without_engine(place, {});
    ADD_FAILURE() << "there is no engine";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no distributed engine"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("hint: build with a LibTorch that has c10d"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace brim::test
