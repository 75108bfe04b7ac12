#include <gtest/gtest.h>

#include <fstream>

#include "brim/cache/error.h"
#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/damaged_store.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

class Damaged : public testing::TestWithParam<SmallStore> {
 protected:
  static constexpr int kValues = static_cast<int>(DamagedStore::kValues);

  DamagedStore store_{GetParam()};
  const std::string file_ = store_.file();
  const std::string sound_ = store_.sound();
};

INSTANTIATE_TEST_SUITE_P(Kinds, Damaged, testing::ValuesIn(small_stores()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(Damaged, AtAnyByteServesNothingWrong) {
  ASSERT_EQ(store_.look(sound_), kValues) << "the undamaged store";
  // In a child: damage that crashes must fail the test, not end it.
  const std::string end = in_child([&] {
    std::mt19937_64 generator(1);
    int kept = 0;
    int whole = 0;
    const auto flip = [&](std::size_t from, std::size_t count) {
      std::string bytes = sound_;
      for (std::size_t at = from; at < from + count; ++at)
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << generator() % 8));
      const int held = store_.look(bytes);
      if (held < 0) std::fprintf(stderr, "bytes %zu + %zu: %d\n", from, count, held);
      return held;
    };
    // Bytes that do no harm together do none one by one; of all others each is tried alone.
    constexpr std::size_t kTogether = 16;
    for (std::size_t from = 0; from < sound_.size(); from += kTogether) {
      const std::size_t count = std::min(kTogether, sound_.size() - from);
      int held = flip(from, count);
      if (held < 0) return 1;
      const bool harmless = held == kValues;
      for (std::size_t i = 0; i < count; ++i) {
        if (!harmless && (held = flip(from + i, 1)) < 0) return 1;
        kept += held;
        whole += held == kValues ? 1 : 0;
      }
    }
    // Damage to one value must not cost the others.
    const auto all = static_cast<double>(sound_.size() * kValues);
    std::fprintf(stderr, "%zu bytes, %.1f%% of the values kept, %d flips harmless\n", sound_.size(),
                 100.0 * kept / all, whole);
    return kept > 0.5 * all ? 0 : 2;
  });
  EXPECT_EQ(end, "exit 0");
}

TEST_P(Damaged, ByTruncationServesNothingWrong) {
  const std::string end = in_child([&] {
    for (std::size_t size = 0; size < sound_.size(); size += 61)
      if (store_.look(sound_.substr(0, size)) < 0) return 1;
    return 0;
  });
  EXPECT_EQ(end, "exit 0");
}

TEST_P(Damaged, ByZeroedPagesServesNothingWrong) {
  const std::string end = in_child([&] {
    for (std::size_t at = 0; at < sound_.size(); at += 512) {
      std::string bytes = sound_;
      bytes.replace(at, std::min<std::size_t>(512, bytes.size() - at),
                    std::string(std::min<std::size_t>(512, bytes.size() - at), '\0'));
      if (store_.look(bytes) < 0) return 1;
    }
    return 0;
  });
  EXPECT_EQ(end, "exit 0");
}

TEST_P(Damaged, WithRandomBytesServesNothingWrong) {
  const std::string end = in_child([&] {
    std::mt19937_64 generator(5);
    for (int round = 0; round < 300; ++round) {
      std::string bytes = sound_;
      for (std::uint64_t n = generator() % 64 + 1; n > 0; --n)
        bytes[generator() % bytes.size()] = static_cast<char>(generator());
      if (const int held = store_.look(bytes); held < 0) {
        std::fprintf(stderr, "round %d: %d\n", round, held);
        return 1;
      }
    }
    return 0;
  });
  EXPECT_EQ(end, "exit 0");
}

void put_word(std::string& bytes, std::size_t at, std::uint32_t word) {
  std::memcpy(bytes.data() + at, &word, sizeof word);
}

TEST(DamagedDisk, OfAnOlderVersionIsRemoved) {
  const FastDir folder;
  std::string bytes(4096, '\0');
  std::memcpy(bytes.data(), "BRIMSEG\n", 8);
  put_word(bytes, 8, 0x01020304);
  put_word(bytes, 12, 1);
  const std::uint64_t sum = checksum64(std::as_bytes(std::span(bytes.data(), 56)));
  std::memcpy(bytes.data() + 56, &sum, sizeof sum);
  const std::string path = folder.path() + "/segment-0123456789abcdef.brim";
  std::ofstream(path, std::ios::binary) << bytes;
  const auto store =
      make_disk_store({.directory = folder.path(), .byte_limit = 1 << 20, .segment_bytes = 4096});
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(store->put(key_of(1), value_of(1, DamagedStore::kValueBytes), 1), PutResult::Stored);
}

TEST_P(Damaged, OfAnotherVersionOrByteOrderIsNotRead) {
  const bool disk = GetParam().name == "disk";
  for (const bool endian : {false, true}) {
    std::string bytes = sound_;
    for (std::size_t at = bytes.find(disk ? "BRIMSEG\n" : "BRIMLMDB"); at != std::string::npos;
         at = bytes.find("BRIMLMDB", at + 1)) {
      put_word(bytes, at + (endian ? 8 : 12), endian ? 0x04030201 : 77);
      if (!disk) continue;
      const std::uint64_t sum = checksum64(std::as_bytes(std::span(bytes.data(), 56)));
      std::memcpy(bytes.data() + 56, &sum, sizeof sum);
    }
    std::ofstream(file_, std::ios::binary) << bytes;
    {
      const auto store = GetParam().open(store_.folder());
      Blob blob;
      for (std::uint64_t i = 0; i < DamagedStore::kValues; ++i)
        EXPECT_FALSE(store->get(key_of(i), blob));
      EXPECT_NE(store->stats().last_error, "");
      EXPECT_EQ(store->put(key_of(1), value_of(1, DamagedStore::kValueBytes), 1),
                PutResult::Stored);
      EXPECT_TRUE(store->get(key_of(1), blob));
    }
    if (disk) {
      EXPECT_EQ(read_file(file_), bytes) << "a newer program may still want it";
    }
    for (const auto& entry : fs::directory_iterator(store_.folder()))
      if (entry.path().filename() != "brim.lock") fs::remove(entry.path());
  }
}

TEST(Lmdb, WithKeysThatAreNotItsOwnIsMadeAnew) {
  const DamagedStore store(small_stores().at(1));
  for (const char letter : {'B', 'D'}) {
    SCOPED_TRACE(letter);
    // Length and bytes of the key of the first block, and of its directory.
    const std::string key = std::string{9, 0, letter} + std::string(8, 0);
    std::string bytes = store.sound();
    const std::size_t at = bytes.find(key);
    ASSERT_NE(at, std::string::npos);
    bytes[at] = 19;
    EXPECT_EQ(store.look(bytes), 0);
    const auto again = small_stores().at(1).open(store.folder());
    EXPECT_EQ(again->stats().entries, DamagedStore::kValues) << "what was refilled is kept";
  }
}

}  // namespace
}  // namespace brim::test
