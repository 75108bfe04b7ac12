#include "dataset_index.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"

namespace brim::detail {
namespace {

constexpr std::size_t kMaxWarnings = 100'000;

std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

}  // namespace

std::uint32_t SampleIndex::add_directory(std::string path) {
  if (directories.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw Error("more folders than an index can hold");
  }
  directories.push_back(std::move(path));
  return static_cast<std::uint32_t>(directories.size() - 1);
}

SampleEntry& SampleIndex::add(std::uint32_t directory, std::string_view file_name) {
  if (file_name.size() > 0xFFFF) throw Error("file name of more than 65535 bytes");
  SampleEntry entry;
  entry.name = names.size() << 16 | file_name.size();
  entry.directory = directory;
  names.append(file_name.data(), file_name.size());
  entries.push_back(entry);
  return entries[entries.size() - 1];
}

void SampleIndex::path(std::int64_t index, std::string& out) const {
  const SampleEntry& entry = entries[static_cast<std::size_t>(index)];
  out = directories[entry.directory];
  if (members) return;
  if (!out.empty() && out.back() != '/') out += '/';
  out += name(entry);
}

std::string SampleIndex::shown_path(std::int64_t index) const {
  std::string text;
  path(index, text);
  if (members) {
    text += ':';
    text += name(entries[static_cast<std::size_t>(index)]);
  }
  return text;
}

Record SampleIndex::record(std::int64_t index, RecordScratch& scratch) const {
  const auto i = static_cast<std::size_t>(index);
  const SampleEntry& entry = entries[i];
  path(index, scratch.path);
  scratch.polygons.clear();
  Record record;
  record.source = {scratch.path, entry.offset, entry.length, entry.mtime_ns};
  record.width = entry.width;
  record.height = entry.height;
  if (task == Task::Classify) {
    record.class_id = static_cast<std::int32_t>(entry.label);
    return record;
  }
  const std::uint64_t first = entry.label;
  const std::uint64_t end = i + 1 < entries.size() ? entries[i + 1].label : boxes.size();
  record.boxes = {boxes.data() + first, static_cast<std::size_t>(end - first)};
  if (!polygons.empty() && first < end) {
    const PolygonEntry* polygon =
        std::lower_bound(polygons.begin(), polygons.end(), first,
                         [](const PolygonEntry& p, std::uint64_t box) { return p.box < box; });
    for (; polygon != polygons.end() && polygon->box < end; ++polygon) {
      scratch.polygons.push_back({static_cast<std::int32_t>(polygon->box - first),
                                  {points.data() + polygon->first, polygon->count}});
    }
  }
  record.polygons = scratch.polygons;
  return record;
}

std::uint64_t SampleIndex::fingerprint(std::string_view root) const {
  std::vector<std::uint64_t> folders;
  folders.reserve(directories.size());
  for (const std::string& directory : directories) {
    std::string_view text = directory;
    if (!root.empty() && text.starts_with(root)) text.remove_prefix(root.size());
    while (text.starts_with('/')) text.remove_prefix(1);
    folders.push_back(hash_text(text, 0));
  }
  std::uint64_t key = mix64(static_cast<std::uint64_t>(task), entries.size());
  for (const SampleEntry& entry : entries) {
    const std::uint64_t facts[4] = {folders[entry.directory],
                                    std::uint64_t{entry.length} << 32 | entry.label,
                                    std::uint64_t{entry.width} << 32 | entry.height, entry.offset};
    key = hash_bytes(std::as_bytes(std::span(facts)), hash_text(name(entry), key));
  }
  key = hash_bytes(boxes.bytes(), key);
  for (const PolygonEntry& polygon : polygons) key = mix64(mix64(key, polygon.box), polygon.count);
  key = hash_bytes(points.bytes(), key);
  for (const std::string& text : class_names) key = hash_text(text, key);
  return key;
}

std::size_t SampleIndex::sample_bytes() const {
  std::size_t bytes = entries.capacity_bytes() + names.capacity_bytes();
  for (const std::string& directory : directories) bytes += sizeof directory + directory.capacity();
  return bytes;
}

std::size_t SampleIndex::label_bytes() const {
  return boxes.capacity_bytes() + polygons.capacity_bytes() + points.capacity_bytes();
}

void SampleIndex::shrink_to_fit() {
  entries.shrink_to_fit();
  names.shrink_to_fit();
  boxes.shrink_to_fit();
  polygons.shrink_to_fit();
  points.shrink_to_fit();
}

bool SampleIndex::consistent() const {
  if (task != Task::Detect && task != Task::Classify) return false;
  const std::size_t classes = class_names.size();
  std::uint64_t label = 0;
  for (const SampleEntry& entry : entries) {
    if ((entry.name >> 16) + (entry.name & 0xFFFF) > names.size()) return false;
    if (entry.directory >= directories.size()) return false;
    if (task == Task::Classify) {
      if (entry.label >= classes) return false;
    } else {
      if (entry.label < label || entry.label > boxes.size()) return false;
      label = entry.label;
    }
  }
  if (task == Task::Detect && !entries.empty() && entries[0].label != 0) return false;
  for (const Box& box : boxes) {
    if (box.class_id < 0 || static_cast<std::size_t>(box.class_id) >= classes) return false;
  }
  std::uint64_t box = 0;
  for (const PolygonEntry& polygon : polygons) {
    if (polygon.box < box || polygon.box >= boxes.size()) return false;
    if (polygon.first > points.size() || polygon.count > points.size() - polygon.first)
      return false;
    box = polygon.box;
  }
  return true;
}

void add_warning(std::vector<DatasetWarning>& warnings, DatasetWarning warning) {
  if (warnings.size() < kMaxWarnings) {
    warnings.push_back(std::move(warning));
  } else if (warnings.size() == kMaxWarnings) {
    warnings.push_back({"", 0, "further warnings are not listed"});
  }
}

}  // namespace brim::detail
