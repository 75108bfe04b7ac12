#include "cache_uses.h"

#include <gtest/gtest.h>

#include "support/test_data.h"

namespace brim::cli {
namespace {

TEST(CacheUses, AreForgottenOnlyWhenAsked) {
  const test::TempDir folder;
  const std::string directory = folder.path().string();
  const CacheUse use{.data = directory + "/absent.yaml", .split = "train", .recipe = "r"};
  note_cache_use(directory, use);
  note_cache_use(directory, use);
  for (int collection = 0; collection < 2; ++collection) {  // the first may have failed
    const WantedEntries wanted = wanted_entries(directory, "", 0);
    EXPECT_EQ(wanted.uses, 1);
    EXPECT_EQ(wanted.gone, std::vector{use.data});
    EXPECT_TRUE(wanted.keys.empty());
  }
  forget_gone(wanted_entries(directory, "", 0));
  EXPECT_EQ(wanted_entries(directory, "", 0).uses, 0);
}

}  // namespace
}  // namespace brim::cli
