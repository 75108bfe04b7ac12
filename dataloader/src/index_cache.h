#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "dataset_index.h"

namespace brim::detail {

/// Name of everything an index was built from: settings and texts in order, files by path, size
/// and modification time in any order.
class SourceDigest {
 public:
  void add(std::string_view text);
  void add(std::uint64_t number);
  void add_file(std::string_view path, std::int64_t length, std::int64_t mtime_ns);
  /// Adds what another digest's `add_file` calls gathered.
  void merge_files(const SourceDigest& other);
  friend bool operator==(const SourceDigest&, const SourceDigest&) = default;

  struct Value {
    std::uint64_t high = 0, low = 0;
    friend bool operator==(const Value&, const Value&) = default;
  };
  Value value() const;

 private:
  std::uint64_t ordered_ = 0;
  std::uint64_t files_ = 0;
  std::uint64_t sum_high_ = 0, sum_low_ = 0;
};

struct StoredIndex {
  SampleIndex index;
  std::uint64_t fingerprint = 0;
};

/// File of the index that `what` (format, path, split, settings) has in `directory`.
std::string index_file(const std::string& directory, std::string_view what);
/// True if `file` claims to hold the index of these sources.
bool index_matches(const std::string& file, const SourceDigest& digest);
/// The index stored in `file`; nothing where it is absent, of other sources or another format
/// version, or damaged anywhere (checksum over every byte).
std::optional<StoredIndex> load_index(const std::string& file, const SourceDigest& digest);
/// Puts the index in place of `file` in one step. Returns why it could not, or nothing: an index
/// that is not kept costs time only.
std::string save_index(const std::string& file, const SourceDigest& digest,
                       const SampleIndex& index, std::uint64_t fingerprint);

}  // namespace brim::detail
