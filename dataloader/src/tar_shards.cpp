#include "tar_shards.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kMostShards = 1'000'000;

/// The first `{a..b}` of a text.
struct Braces {
  std::size_t begin = 0, end = 0;
  std::int64_t from = 0, to = 0;
  std::size_t digits = 0;
};

bool find_braces(const std::string& text, Braces& braces) {
  for (std::size_t at = text.find('{'); at != std::string::npos; at = text.find('{', at + 1)) {
    const char* const end = text.data() + text.size();
    const char* first = text.data() + at + 1;
    const auto a = std::from_chars(first, end, braces.from);
    if (a.ec != std::errc() || end - a.ptr < 2 || a.ptr[0] != '.' || a.ptr[1] != '.') continue;
    const auto b = std::from_chars(a.ptr + 2, end, braces.to);
    if (b.ec != std::errc() || b.ptr == end || *b.ptr != '}') continue;
    braces.begin = at;
    braces.end = static_cast<std::size_t>(b.ptr - text.data()) + 1;
    braces.digits = static_cast<std::size_t>(a.ptr - first);
    return true;
  }
  return false;
}

void expand_names(const std::string& pattern, std::vector<std::string>& out) {
  const fs::path path(pattern);
  const std::string name = path.filename().string();
  if (name.find_first_of("*?") == std::string::npos) {
    out.push_back(pattern);
    return;
  }
  std::error_code error;
  const std::size_t first = out.size();
  for (fs::directory_iterator it(path.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string found = it->path().filename().string();
    if (::fnmatch(name.c_str(), found.c_str(), FNM_PERIOD) == 0) out.push_back(it->path().string());
  }
  std::sort(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

void expand_braces(const std::string& pattern, std::vector<std::string>& out) {
  Braces braces;
  if (!find_braces(pattern, braces)) return expand_names(pattern, out);
  if (braces.from < 0 || braces.to < braces.from || braces.to - braces.from >= kMostShards ||
      static_cast<std::int64_t>(out.size()) >= kMostShards) {
    throw Error("names no usable range of shards", {.file = pattern},
                "a range counts up, e.g. {000..127}");
  }
  for (std::int64_t i = braces.from; i <= braces.to; ++i) {
    std::string number = std::to_string(i);
    if (number.size() < braces.digits) number.insert(0, braces.digits - number.size(), '0');
    expand_braces(pattern.substr(0, braces.begin) + number + pattern.substr(braces.end), out);
  }
}

}  // namespace

bool is_shard_pattern(const std::string& path) {
  Braces braces;
  return find_braces(path, braces) || path.find_first_of("*?") != std::string::npos;
}

std::vector<std::string> expand_shards(const std::string& pattern, int part, int parts) {
  if (parts > 1 && pattern.find_first_of("*?") != std::string::npos) {
    throw Error("cannot be divided: * and ? find only what this machine has", {.file = pattern},
                "name the shards by their numbers, as in train-{000..127}.tar");
  }
  std::vector<std::string> named, files;
  expand_braces(pattern, named);
  if (parts > 1 && static_cast<std::int64_t>(named.size()) < parts) {
    throw Error("names " + std::to_string(named.size()) + " shards for " + std::to_string(parts) +
                    " machines",
                {.file = pattern}, "every machine needs at least one");
  }
  for (std::size_t i = static_cast<std::size_t>(part); i < named.size();
       i += static_cast<std::size_t>(parts))
    files.push_back(std::move(named[i]));
  std::error_code ignored;
  for (const std::string& file : files) {
    if (!fs::is_regular_file(file, ignored)) throw Error("no such shard", {.file = file});
  }
  if (files.empty()) throw Error("no shard matches", {.file = pattern});
  return files;
}

}  // namespace brim::detail
