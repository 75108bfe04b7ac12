#pragma once

#include <functional>
#include <memory>
#include <string>

#include "brim/dataloader/dataset.h"
#include "dataset_index.h"
#include "index_cache.h"

namespace brim::detail {

/// The two halves of opening an indexed dataset. `list` is cheap and always runs: it names the
/// samples and digests what they are built from. `read` parses labels and headers; it is skipped
/// when an index of the same digest is stored.
struct IndexBuild {
  std::string what;  ///< names the index: format, full path, split, settings
  std::string root;  ///< folder that the fingerprint's paths are relative to
  std::function<void(SampleIndex&, SourceDigest&)> list;
  std::function<void(SampleIndex&)> read;
  /// Set where `list` cannot name the samples: those of a stored index are looked up instead.
  bool check_files = false;
};

/// The stored index where it is of the same sources, else a new one, which is then stored. Keeping
/// it may fail (a full disk); that is a warning.
std::shared_ptr<const Dataset> open_indexed(const IndexBuild& build, const DatasetOptions& options);

/// `path` made absolute, without dots.
std::string full_path(const std::string& path);

/// `path` with the last "train" of its file name replaced by the name of another split. Throws
/// Error where there is none to replace.
std::string path_of_split(const std::string& path, Split split);

/// Throws Error if more of the rows (or listed files) are bad than `options` allow; the message is
/// that of the first.
void check_bad_fraction(std::int64_t bad, std::int64_t all, const std::string& things,
                        const DatasetWarning& first, const DatasetOptions& options);

}  // namespace brim::detail
