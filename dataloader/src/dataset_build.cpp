#include "dataset_build.h"

#include <bit>
#include <cstdio>
#include <filesystem>

#include "brim/cache/error.h"
#include "dataset_indexed.h"
#include "dataset_scan.h"

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

/// Changes whenever the same sources would give another index.
constexpr std::string_view kBuilder = "brim index builder 1";

struct Listed {
  SampleIndex index;
  SourceDigest digest;
};

Listed list_sources(const IndexBuild& build, const DatasetOptions& options) {
  Listed listed;
  listed.digest.add(kBuilder);
  listed.digest.add(build.what);
  listed.digest.add(std::bit_cast<std::uint64_t>(options.max_bad_fraction));
  build.list(listed.index, listed.digest);
  return listed;
}

std::string percent(std::int64_t part, std::int64_t all) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%",
                100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

}  // namespace

std::shared_ptr<const Dataset> open_indexed(const IndexBuild& build,
                                            const DatasetOptions& options) {
  Listed listed = list_sources(build, options);
  const bool keep = !options.index_directory.empty();
  const std::string file = keep ? index_file(options.index_directory, build.what) : std::string();
  if (keep && index_matches(file, listed.digest)) {
    listed.index = SampleIndex();  // never two indices in memory
    auto stored = load_index(file, listed.digest);
    if (stored && (!build.check_files || files_unchanged(stored->index, scan_threads(options)))) {
      return std::make_shared<IndexedDataset>(std::move(stored->index), stored->fingerprint);
    }
    listed = list_sources(build, options);
  }
  build.read(listed.index);
  listed.index.shrink_to_fit();
  const std::uint64_t fingerprint = listed.index.fingerprint(build.root);
  if (keep) {
    const std::string failed = save_index(file, listed.digest, listed.index, fingerprint);
    if (!failed.empty()) add_warning(listed.index.warnings, {file, 0, "index not kept: " + failed});
  }
  return std::make_shared<IndexedDataset>(std::move(listed.index), fingerprint);
}

std::string full_path(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) throw Error("not a usable path: " + error.message(), {.file = path});
  std::string text = absolute.lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

std::string path_of_split(const std::string& path, Split split) {
  if (split == Split::Train) return path;
  const std::string name(split_name(split));
  const std::size_t at = path.rfind("train");
  const std::size_t slash = path.rfind('/');
  if (at != std::string::npos && (slash == std::string::npos || at > slash)) {
    return path.substr(0, at) + name + path.substr(at + 5);
  }
  if (path.find(name, slash == std::string::npos ? 0 : slash) != std::string::npos) return path;
  throw Error("its name does not say where the split '" + name + "' is", {.file = path},
              "a file name with 'train' in it has a sibling with '" + name + "' instead");
}

void check_bad_fraction(std::int64_t bad, std::int64_t all, const std::string& things,
                        const DatasetWarning& first, const DatasetOptions& options) {
  if (bad == 0 || static_cast<double>(bad) <= options.max_bad_fraction * static_cast<double>(all)) {
    return;
  }
  char limit[32];
  std::snprintf(limit, sizeof limit, "%g%%", 100 * options.max_bad_fraction);
  throw Error(first.reason, {.file = first.file, .line = first.line},
              std::to_string(bad) + " of " + std::to_string(all) + " " + things + " are bad (" +
                  percent(bad, all) + "); more than " + limit + " is taken for a mistake");
}

}  // namespace brim::detail
