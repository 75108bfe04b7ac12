#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "dataset_array.h"

namespace brim::detail {

/// One sample of the index; 40 bytes, to which its file name comes.
struct SampleEntry {
  std::uint64_t name = 0;    ///< offset into the names << 16 | length
  std::uint64_t offset = 0;  ///< of the bytes within the file
  std::int64_t mtime_ns = 0;
  std::uint32_t length = 0;  ///< bytes
  std::uint32_t directory = 0;
  std::uint16_t width = 0, height = 0;  ///< upright; 0: unknown
  /// Classification: the class. Detection: the sample's first box; the next entry's ends it.
  std::uint32_t label = 0;
};
static_assert(sizeof(SampleEntry) == 40);

/// A polygon of the box with this number (within the whole index).
struct PolygonEntry {
  std::uint64_t box = 0;
  std::uint64_t first = 0;  ///< within `points`
  std::uint64_t count = 0;  ///< numbers, two per point
};

/// Samples, labels and class names in a few flat arrays: 40 bytes and a file name per sample (the
/// folder's name is shared), 20 bytes per box. Built once, then read by any thread.
struct SampleIndex {
  Task task = Task::Detect;
  bool members = false;                    ///< samples are ranges of files ("shards")
  std::vector<std::string> directories{};  ///< folders, or the shards
  GrowingArray<SampleEntry> entries{};
  GrowingArray<char> names{};
  GrowingArray<Box> boxes{};
  GrowingArray<PolygonEntry> polygons{};  ///< ascending in `box`
  GrowingArray<float> points{};
  std::vector<std::string> class_names{};
  std::vector<DatasetWarning> warnings{};

  std::int64_t size() const { return static_cast<std::int64_t>(entries.size()); }
  std::uint32_t add_directory(std::string path);
  /// Adds a sample called `name` in `directory`; labels and sizes are filled in later.
  SampleEntry& add(std::uint32_t directory, std::string_view name);
  std::string_view name(const SampleEntry& entry) const {
    return {names.data() + (entry.name >> 16), static_cast<std::size_t>(entry.name & 0xFFFF)};
  }
  /// Path of the file that holds the sample: folder and name, or the shard.
  void path(std::int64_t index, std::string& out) const;
  Record record(std::int64_t index, RecordScratch& scratch) const;
  /// Path for people: of a shard's member, shard and member.
  std::string shown_path(std::int64_t index) const;
  /// Over names (folders relative to `root`), byte counts, sizes, labels and class names: what
  /// stays equal when the dataset is copied elsewhere.
  std::uint64_t fingerprint(std::string_view root) const;
  /// Bytes held, labels apart / labels alone.
  std::size_t sample_bytes() const;
  std::size_t label_bytes() const;
  void shrink_to_fit();
  /// True if every reference within the index lies inside it.
  bool consistent() const;
};

/// Keeps `warning` unless very many were kept before.
void add_warning(std::vector<DatasetWarning>& warnings, DatasetWarning warning);

}  // namespace brim::detail
