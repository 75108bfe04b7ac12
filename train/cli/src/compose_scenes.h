#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim {

/// What `brim data make` composes: pictures of garments (or whatever grey images an IDX set holds
/// on black) over textured backgrounds. Picture i depends on (seed, i) and the settings alone.
struct ComposeOptions {
  std::string source = "/usr/share/datasets/fashion-mnist";  ///< folder of IDX files
  std::string output{};
  Task task = Task::Detect;  ///< Detect: YOLO set; Classify: ImageFolder
  std::int64_t images = 2000;
  int size = 320;             ///< pixels, square
  double val_fraction = 0.1;  ///< spread evenly; composed of the source's test images
  std::uint64_t seed = 0;
  int threads = 0;                     ///< 0: available_cpus()
  std::vector<std::string> classes{};  ///< of the source, by name; empty: all
  int min_objects = 2;
  int max_objects = 7;  ///< tried per scene; one that would hide others is left out
};

struct ComposeReport {
  std::int64_t written = 0;
  std::int64_t kept = 0;  ///< complete already, left as they were
  std::int64_t train_images = 0, val_images = 0;
  bool finished = true;  ///< false: the progress callback ended it; calling again goes on
  std::string data{};    ///< what to hand to `brim train --data`
};

/// Called now and then, by one thread at a time; false ends the work after the present pictures.
using ComposeProgress = std::function<bool(std::int64_t done, std::int64_t total)>;

/// Composes the set in `options.output`. Every file appears complete or not at all, complete
/// pictures are kept, data.yaml comes last: a run that was cut short goes on when called again,
/// and a larger `images` adds to what is there. Throws Error for settings that cannot be, a folder
/// that holds a set of other settings, and when writing fails.
ComposeReport compose_scenes(const ComposeOptions& options, const ComposeProgress& progress = {});

}  // namespace brim
