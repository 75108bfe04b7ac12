#include "cache_uses.h"

#include <gtest/gtest.h>

#include "support/test_data.h"
#include "support/yolo_files.h"

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
  forget(wanted_entries(directory, "", 0).gone_notes);
  EXPECT_EQ(wanted_entries(directory, "", 0).uses, 0);
}

TEST(CacheUses, EntriesOfADataSetAreThoseThatNoOtherAsksFor) {
  const test::TempDir folder;
  const std::string directory = folder.path().string();
  const std::string one = test::write_yolo(folder.file("one"), {"0 .5 .5 .1 .1", "-"});
  // Another description of the same images, and images of its own.
  test::write_file(folder.file("one/same.yaml"), test::read_file(one));
  const std::string two = test::write_yolo(folder.file("two"), {"0 .5 .5 .1 .1", "-", "-"});
  note_cache_use(directory, {.data = one, .split = "train", .recipe = "r"});
  note_cache_use(directory, {.data = one, .split = "train", .recipe = "s"});
  note_cache_use(directory, {.data = two, .split = "train", .recipe = "r"});
  EXPECT_EQ(entries_of(directory, "", one).keys.size(), 4u);
  EXPECT_EQ(entries_of(directory, "", one).notes.size(), 2u);
  EXPECT_EQ(entries_of(directory, "", two).keys.size(), 3u);
  note_cache_use(directory,
                 {.data = folder.file("one/same.yaml"), .split = "train", .recipe = "r"});
  EXPECT_EQ(entries_of(directory, "", one).keys.size(), 2u) << "those of recipe s";
  EXPECT_TRUE(entries_of(directory, "", folder.file("three.yaml")).notes.empty());
}

}  // namespace
}  // namespace brim::cli
