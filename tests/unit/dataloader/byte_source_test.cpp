#include "brim/dataloader/byte_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "brim/dataloader/decode.h"
#include "support/test_data.h"

namespace brim {
namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string error_of(const Record& record, const std::string& path) {
  std::vector<std::byte> buffer;
  try {
    read_bytes(record, path, buffer);
  } catch (const DecodeError& e) {
    EXPECT_EQ(e.where().file, path);
    return e.message();
  }
  return "no error";
}

TEST(ReadBytes, ReadsAFileOrARangeOfIt) {
  test::TempDir folder;
  const std::string path = folder.file("a.bin");
  test::write_file(path, "0123456789");
  std::vector<std::byte> buffer;
  EXPECT_EQ(text_of(read_bytes({}, path, buffer)), "0123456789");
  Record part;
  part.source.offset = 3;
  part.source.length = 4;
  EXPECT_EQ(text_of(read_bytes(part, path, buffer)), "3456");
  part.source.length = 0;
  EXPECT_EQ(text_of(read_bytes(part, path, buffer)), "3456789");
}

TEST(ReadBytes, ReusesTheBuffer) {
  test::TempDir folder;
  test::write_file(folder.file("large"), std::string(5000, 'a'));
  test::write_file(folder.file("small"), "b");
  std::vector<std::byte> buffer;
  read_bytes({}, folder.file("large"), buffer);
  const std::byte* const memory = buffer.data();
  EXPECT_EQ(text_of(read_bytes({}, folder.file("small"), buffer)), "b");
  EXPECT_EQ(buffer.data(), memory);
}

TEST(ReadBytes, TakesBytesThatAreInMemory) {
  const std::byte byte{7};
  Record record;
  record.memory = {&byte, 1};
  std::vector<std::byte> buffer;
  EXPECT_EQ(read_bytes(record, "/nowhere", buffer).data(), &byte);
}

TEST(ReadBytes, NamesTheFileThatIsMissingOrShort) {
  test::TempDir folder;
  EXPECT_THAT(error_of({}, folder.file("none")), ::testing::HasSubstr("No such file"));
  EXPECT_THAT(error_of({}, folder.path().string()), ::testing::HasSubstr("not a regular file"));
  test::write_file(folder.file("short"), "012");
  Record record;
  record.source.length = std::uint64_t{1} << 50;  // must not be allocated before it is checked
  EXPECT_THAT(error_of(record, folder.file("short")), ::testing::HasSubstr("3 are there"));
}

TEST(ReadBytes, SeesThatAFileShrankBelowTheReusedBuffer) {
  test::TempDir folder;
  test::write_file(folder.file("a"), "0123456789");
  std::vector<std::byte> buffer;
  Record record;
  record.source.length = 10;
  read_bytes(record, folder.file("a"), buffer);
  test::write_file(folder.file("a"), "01234");
  EXPECT_THROW(read_bytes(record, folder.file("a"), buffer), DecodeError);
}

}  // namespace
}  // namespace brim
