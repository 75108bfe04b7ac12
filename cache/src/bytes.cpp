#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"

namespace brim {
namespace {

constexpr std::array<std::pair<std::string_view, double>, 14> kUnits{{
    {"", 1.0},
    {"b", 1.0},
    {"k", 1024.0},
    {"kib", 1024.0},
    {"kb", 1e3},
    {"m", 1048576.0},
    {"mib", 1048576.0},
    {"mb", 1e6},
    {"g", 1073741824.0},
    {"gib", 1073741824.0},
    {"gb", 1e9},
    {"t", 1099511627776.0},
    {"tib", 1099511627776.0},
    {"tb", 1e12},
}};

}  // namespace

std::string format_bytes(std::int64_t bytes) {
  static constexpr std::array<const char*, 4> kNames{"KiB", "MiB", "GiB", "TiB"};
  const double magnitude = std::fabs(static_cast<double>(bytes));
  if (magnitude < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (std::fabs(value) >= 1023.95 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kNames[unit]);
  return text.data();
}

std::int64_t parse_bytes(const std::string& text, const std::string& key) {
  const auto fail = [&](const std::string& why) -> Error {
    return Error("'" + text + "' is not a size in bytes: " + why, {.key = key},
                 "write a number with an optional unit, as in 6GiB, 1.5 GiB, 500MB or 1048576");
  };
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (begin < end && std::isspace(static_cast<unsigned char>(text[begin]))) ++begin;
  while (end > begin && std::isspace(static_cast<unsigned char>(text[end - 1]))) --end;
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, number);
  if (error != std::errc{}) throw fail("no number");
  std::string unit;
  for (const char* c = rest; c != text.data() + end; ++c)
    if (!std::isspace(static_cast<unsigned char>(*c)))
      unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  for (const auto& [name, factor] : kUnits) {
    if (unit != name) continue;
    const double bytes = number * factor;
    if (!(bytes >= 0)) throw fail("it is negative");
    if (bytes >= 9.2e18) throw fail("it is too large");
    return std::llround(bytes);
  }
  throw fail("unknown unit '" + unit + "'");
}

}  // namespace brim
