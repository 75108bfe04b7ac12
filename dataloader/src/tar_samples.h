#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "label_rows.h"

namespace brim::detail {

/// One image of a shard and its labels.
struct ShardSample {
  std::string name;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::uint16_t width = 0, height = 0;
  std::int32_t class_id = -1;
  std::uint32_t boxes = 0;  ///< so many of the shard's, in order
};

/// What one shard holds.
struct ShardContent {
  std::vector<ShardSample> samples;
  LabelRows rows;
  std::vector<DatasetWarning> warnings;
  std::optional<DatasetWarning> first_bad;
  std::int64_t bad_rows = 0;
  std::int64_t with_class = 0, with_boxes = 0;  ///< samples
};

/// Reads headers and labels of the shard `file`. Members are grouped by WebDataset's rule: the
/// name up to the first dot of its last part is the sample, the rest says what it is: an image,
/// `cls` (class number or name), `json` (`label` or `boxes`: rows of class cx cy width height),
/// `txt` (YOLO rows). Throws Error for a damaged shard and classes that are none of `names`
/// (empty: any number).
ShardContent read_shard(const std::string& file, const std::vector<std::string>& names);

}  // namespace brim::detail
