#include <gtest/gtest.h>

#include "dataloader/src/index_cache.h"
#include "support/index_samples.h"
#include "support/test_data.h"

namespace brim {
namespace {
using namespace detail;
using test::digest_of;
using test::small_index;
using test::TempDir;
using test::write_file;

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
