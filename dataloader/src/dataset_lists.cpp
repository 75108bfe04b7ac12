#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_map>

#include "brim/cache/error.h"
#include "dataset_scan.h"

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

std::string read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw Error("cannot be read", {.file = file});
  return std::move(text).str();
}

std::string_view trimmed(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) {
    line.remove_suffix(1);
  }
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  return line;
}

}  // namespace

void add_list(const std::string& file, const std::string& root, SampleIndex& index,
              std::vector<std::int64_t>& lines, SourceDigest& digest) {
  const std::string text = read_text(file);
  digest.add(text);
  const std::string folder = fs::path(file).parent_path().string();
  std::unordered_map<std::string, std::uint32_t> directories;
  std::unordered_map<std::string, std::string> resolved;  // folder as written -> full
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);

  // A relative folder is looked up once, not once per image.
  auto full_folder = [&](const std::string& written) -> const std::string& {
    auto [it, fresh] = resolved.try_emplace(written);
    if (fresh) {
      std::error_code ignored;
      const fs::path beside = fs::path(folder) / written;
      const fs::path below = fs::path(root) / written;
      const bool use_root = !fs::is_directory(beside, ignored) && fs::is_directory(below, ignored);
      it->second = (use_root ? below : beside).lexically_normal().string();
      while (it->second.size() > 1 && it->second.back() == '/') it->second.pop_back();
    }
    return it->second;
  };
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.empty()) continue;
    if (line.find('\0') != std::string_view::npos) {
      throw Error("holds a zero byte: not a list of images", {.file = file, .line = number});
    }
    const std::size_t slash = line.rfind('/');
    const bool has_folder = slash != std::string_view::npos;
    const std::string& directory =
        full_folder(has_folder ? std::string(line.substr(0, slash + 1)) : std::string());
    const auto [it, fresh] = directories.try_emplace(directory, 0);
    if (fresh) it->second = index.add_directory(directory);
    index.add(it->second, has_folder ? line.substr(slash + 1) : line);
    lines.push_back(number);
  }
}

}  // namespace brim::detail
