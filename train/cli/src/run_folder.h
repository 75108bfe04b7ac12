#pragma once

#include <string>
#include <vector>

namespace brim::cli {

/// `base` where it is free, else `base2`, `base3`, ... (the numbering YOLO users know).
std::string next_run_folder(const std::string& base);

/// Makes `folder` and proves that files can be written there. Throws Error.
void prepare_run_folder(const std::string& folder);

/// The checkpoint that `--resume` without a path means: the newest `last.pt` below `runs`.
/// Throws Error when there is none.
std::string newest_checkpoint(const std::string& runs);

/// Appends one line to a text file and flushes it. Throws Error.
void append_line(const std::string& path, const std::string& line);

}  // namespace brim::cli
