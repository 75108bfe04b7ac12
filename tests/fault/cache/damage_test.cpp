#include <gtest/gtest.h>

#include <fstream>

#include "brim/cache/error.h"
#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kValues = 12;
constexpr std::size_t kValueBytes = 180;

/// A small store of one kind and the one file its bytes are in.
struct Small {
  std::string name;
  std::function<std::shared_ptr<Store>(const std::string&)> open;
  std::string prefix;
};

std::ostream& operator<<(std::ostream& out, const Small& small) {
  return out << small.name;
}

class Damaged : public testing::TestWithParam<Small> {
 protected:
  void SetUp() override {
    {
      const auto store = GetParam().open(folder_.path());
      for (std::uint64_t i = 0; i < kValues; ++i)
        ASSERT_EQ(store->put(key_of(i), value_of(i, kValueBytes), 1), PutResult::Stored);
      store->flush();
    }
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().filename().string().starts_with(GetParam().prefix))
        file_ = entry.path().string();
    ASSERT_FALSE(file_.empty());
    sound_ = read_file(file_);
  }

  /// Opens the store over `bytes`, reads everything and puts back what is missing. Returns the
  /// number of values that were still there; -1: a wrong one was served.
  int look(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary) << bytes;
    const auto store = GetParam().open(folder_.path());
    Blob blob;
    int held = 0;
    for (int round = 0; round < 2; ++round)
      for (std::uint64_t i = 0; i < kValues; ++i) {
        if (store->get(key_of(i), blob)) {
          if (!same(blob.bytes, value_of(i, kValueBytes))) return -1;
          held += round == 0 ? 1 : 0;
        } else if (round == 0) {
          store->put(key_of(i), value_of(i, kValueBytes), 1);
        } else {
          std::fprintf(stderr, "value %d was not refilled: %s\n", static_cast<int>(i),
                       store->stats().last_error.c_str());
          return -2;
        }
      }
    return held;
  }

  /// The same in a child, on a folder that holds nothing but the file: -100 when it died.
  int look_fresh(const std::string& bytes) const {
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().string() != file_ && entry.path().filename() != "brim.lock")
        fs::remove(entry.path());
    return look(bytes);
  }

  FastDir folder_;
  std::string file_;
  std::string sound_;
};

std::vector<Small> small_stores() {
  return {{"disk",
           [](const std::string& folder) {
             return make_disk_store(
                 {.directory = folder, .byte_limit = 1 << 20, .segment_bytes = 4096});
           },
           "segment-"},
          {"lmdb",
           [](const std::string& folder) {
             return make_lmdb_store({.directory = folder,
                                     .byte_limit = 1 << 20,
                                     .batch_bytes = 1 << 20,
                                     .batch_delay_ms = 1,
                                     .map_bytes = 1 << 20});
           },
           "data.mdb"}};
}

INSTANTIATE_TEST_SUITE_P(Kinds, Damaged, testing::ValuesIn(small_stores()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(Damaged, AtAnyByteServesNothingWrong) {
  ASSERT_EQ(look_fresh(sound_), static_cast<int>(kValues)) << "the undamaged store";
  // In a child: damage that crashes must fail the test, not end it.
  const std::string end = in_child([&] {
    std::mt19937_64 generator(1);
    int kept = 0;
    int whole = 0;
    const auto flip = [&](std::size_t from, std::size_t count) {
      std::string bytes = sound_;
      for (std::size_t at = from; at < from + count; ++at)
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << generator() % 8));
      const int held = look_fresh(bytes);
      if (held < 0) std::fprintf(stderr, "bytes %zu + %zu: %d\n", from, count, held);
      return held;
    };
    // Bytes that do no harm together do none one by one; of all others each is tried alone.
    constexpr std::size_t kTogether = 16;
    for (std::size_t from = 0; from < sound_.size(); from += kTogether) {
      const std::size_t count = std::min(kTogether, sound_.size() - from);
      int held = flip(from, count);
      if (held < 0) return 1;
      const bool harmless = held == static_cast<int>(kValues);
      for (std::size_t i = 0; i < count; ++i) {
        if (!harmless && (held = flip(from + i, 1)) < 0) return 1;
        kept += held;
        whole += held == static_cast<int>(kValues) ? 1 : 0;
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
      if (look_fresh(sound_.substr(0, size)) < 0) return 1;
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
      if (look_fresh(bytes) < 0) return 1;
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
      if (const int held = look_fresh(bytes); held < 0) {
        std::fprintf(stderr, "round %d: %d\n", round, held);
        return 1;
      }
    }
    return 0;
  });
  EXPECT_EQ(end, "exit 0");
}

std::uint32_t& word_at(std::string& bytes, std::size_t at) {
  return *reinterpret_cast<std::uint32_t*>(bytes.data() + at);
}

TEST(DamagedDisk, OfAnOlderVersionIsRemoved) {
  const FastDir folder;
  std::string bytes(4096, '\0');
  std::memcpy(bytes.data(), "BRIMSEG\n", 8);
  word_at(bytes, 8) = 0x01020304;
  word_at(bytes, 12) = 1;
  const std::uint64_t sum = checksum64(std::as_bytes(std::span(bytes.data(), 56)));
  std::memcpy(bytes.data() + 56, &sum, sizeof sum);
  const std::string path = folder.path() + "/segment-0123456789abcdef.brim";
  std::ofstream(path, std::ios::binary) << bytes;
  const auto store =
      make_disk_store({.directory = folder.path(), .byte_limit = 1 << 20, .segment_bytes = 4096});
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(store->put(key_of(1), value_of(1, kValueBytes), 1), PutResult::Stored);
}

TEST_P(Damaged, OfAnotherVersionOrByteOrderIsNotRead) {
  const bool disk = GetParam().name == "disk";
  for (const bool endian : {false, true}) {
    std::string bytes = sound_;
    for (std::size_t at = bytes.find(disk ? "BRIMSEG\n" : "BRIMLMDB"); at != std::string::npos;
         at = bytes.find("BRIMLMDB", at + 1)) {
      word_at(bytes, at + (endian ? 8 : 12)) = endian ? 0x04030201 : 77;
      if (!disk) continue;
      const std::uint64_t sum = checksum64(std::as_bytes(std::span(bytes.data(), 56)));
      std::memcpy(bytes.data() + 56, &sum, sizeof sum);
    }
    std::ofstream(file_, std::ios::binary) << bytes;
    {
      const auto store = GetParam().open(folder_.path());
      Blob blob;
      for (std::uint64_t i = 0; i < kValues; ++i) EXPECT_FALSE(store->get(key_of(i), blob));
      EXPECT_NE(store->stats().last_error, "");
      EXPECT_EQ(store->put(key_of(1), value_of(1, kValueBytes), 1), PutResult::Stored);
      EXPECT_TRUE(store->get(key_of(1), blob));
    }
    if (disk) {
      EXPECT_EQ(read_file(file_), bytes) << "a newer program may still want it";
    }
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().filename() != "brim.lock") fs::remove(entry.path());
  }
}

}  // namespace
}  // namespace brim::test
