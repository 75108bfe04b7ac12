#include <gtest/gtest.h>

#include "dataloader/src/index_cache.h"
#include "support/test_data.h"

namespace brim {
namespace {
using namespace detail;
using test::TempDir;
using test::write_file;

SampleIndex small_index() {
  SampleIndex index;
  index.class_names = {"a", "b"};
  index.warnings = {{"f", 3, "r"}};
  const std::uint32_t folder = index.add_directory("/x");
  index.add(folder, "1.jpg");
  index.add(folder, "2.jpg").label = 1;
  index.boxes.push_back({1, .5f, .5f, .1f, .1f});
  index.boxes.push_back({0, .5f, .5f, .2f, .1f});
  index.points.resize(6);
  index.polygons.push_back({1, 0, 6});
  return index;
}

SourceDigest digest_of(const std::string& text) {
  SourceDigest digest;
  digest.add(text);
  return digest;
}

TEST(IndexCache, EveryFlippedBitAndEveryCutIsNoticed) {
  const TempDir dir;
  const std::string file = dir.file("i.brimindex");
  ASSERT_EQ(save_index(file, digest_of("s"), small_index(), 42), "");
  const std::string good = test::read_file(file);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write_file(file, bad);
    EXPECT_FALSE(load_index(file, digest_of("s"))) << "bit " << i % 8 << " of byte " << i;
    write_file(file, good.substr(0, i));
    EXPECT_FALSE(load_index(file, digest_of("s"))) << "cut at " << i;
  }
  write_file(file, good + "x");
  EXPECT_FALSE(load_index(file, digest_of("s")));
  write_file(file, good);
  EXPECT_TRUE(load_index(file, digest_of("s")));
}

}  // namespace
}  // namespace brim
