#include <gtest/gtest.h>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"

namespace brim {
namespace {

TEST(FormatBytes, PicksTheUnitThatReadsWell) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(12 << 10), "12.0 KiB");
  EXPECT_EQ(format_bytes(300 << 20), "300.0 MiB");
  EXPECT_EQ(format_bytes(std::int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(format_bytes((std::int64_t{1} << 30) - 1), "1.0 GiB");
  EXPECT_EQ(format_bytes(-(3 << 20)), "-3.0 MiB");
}

TEST(ParseBytes, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_bytes("1048576"), 1048576);
  EXPECT_EQ(parse_bytes("6GiB"), std::int64_t{6} << 30);
  EXPECT_EQ(parse_bytes("6G"), std::int64_t{6} << 30);
  EXPECT_EQ(parse_bytes("6g"), std::int64_t{6} << 30);
  EXPECT_EQ(parse_bytes("500MB"), 500000000);
  EXPECT_EQ(parse_bytes(" 1.5 GiB "), std::int64_t{3} << 29);
  EXPECT_EQ(parse_bytes("12.0 KiB"), 12288);
  EXPECT_EQ(parse_bytes("0"), 0);
  for (const std::int64_t bytes : {std::int64_t{1} << 10, std::int64_t{300} << 20})
    EXPECT_EQ(parse_bytes(format_bytes(bytes)), bytes);
}

TEST(ParseBytes, NamesTheKeyAndTheFault) {
  for (const char* text : {"", "GiB", "6XB", "-1", "6 GiB 7", "nan", "inf", "1e40", "9999999TiB"}) {
    try {
      parse_bytes(text, "loader.memory");
      ADD_FAILURE() << "'" << text << "' was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.where().key, "loader.memory");
      EXPECT_NE(error.message().find(std::string("'") + text + "'"), std::string::npos);
      EXPECT_NE(error.hint().find("6GiB"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace brim
