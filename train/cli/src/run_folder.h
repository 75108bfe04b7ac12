#pragma once

#include <string>

#include "config.h"

namespace brim::cli {

/// `base` where it is free, else `base2`, `base3`, ... (the numbering YOLO users know).
std::string next_run_folder(const std::string& base);

/// The folder that one command leaves its results in. A folder that the command made goes again
/// where it fails before it has results (see keep()), unless something else is in it by then.
class RunFolder {
 public:
  /// As `output.dir` says; auto: the next free one after `base`. Makes it and proves that files can
  /// be written there. Throws Error.
  RunFolder(const OutputSettings& output, const std::string& base);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  /// From now on the folder stays, whatever happens.
  void keep() { made_ = false; }

 private:
  std::string path_;
  bool made_ = false;
};

/// Throws Error where the folder that `output` names holds results and may not be written over.
void require_unused(const OutputSettings& output);
/// Removes the weights, plots and pictures that an earlier training left in `folder`.
void remove_results(const std::string& folder);

/// The checkpoint that `--resume` without a path means: the newest `last.pt` below `runs`.
/// Throws Error when there is none.
std::string newest_checkpoint(const std::string& runs);

}  // namespace brim::cli
