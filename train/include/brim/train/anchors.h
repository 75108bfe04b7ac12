#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/train/network.h"

namespace brim {

/// Width and height, in pixels at the training size.
struct BoxSize {
  float width = 0, height = 0;
};

struct AnchorOptions {
  double anchor_t = 4.0;     ///< largest ratio of a side to its anchor that is still trained
  double min_recall = 0.98;  ///< anchors that reach this share of the labels are kept
  int generations = 1000;    ///< of the genetic refinement
  std::uint64_t seed = 0;
};

/// How well anchors cover labels.
struct AnchorFit {
  double recall = 0;  ///< share of labels that at least one anchor reaches ("best possible recall")
  double per_label = 0;  ///< anchors that reach a label, mean
  double fitness = 0;    ///< mean over labels of the best side ratio (0..1), 0 where out of reach
};

/// Labels of `dataset` as they come out of a resize to `image_size` (longer side); at most
/// `max_labels` of them, evenly spread. Images whose size the index does not know count as square.
std::vector<BoxSize> label_sizes(const Dataset& dataset, int image_size,
                                 std::int64_t max_labels = 200000);

AnchorFit measure_anchors(std::span<const BoxSize> labels, std::span<const BoxSize> anchors,
                          double anchor_t);

/// `count` anchors for `labels`, by area ascending: k-means on logarithms of the sides, then
/// mutation of the best so far. The same for the same seed. Empty without labels.
std::vector<BoxSize> fit_anchors(std::span<const BoxSize> labels, int count,
                                 const AnchorOptions& options = {});

/// What check_anchors found and did.
struct AnchorCheck {
  AnchorFit before{}, after{};  ///< equal where the anchors were kept
  bool replaced = false;
  std::vector<BoxSize> anchors{};  ///< in force now, pixels
};

/// Replaces the anchors of `detector` where they reach too few labels and fitted ones reach more.
AnchorCheck check_anchors(Detector& detector, std::span<const BoxSize> labels,
                          const AnchorOptions& options = {});

}  // namespace brim
