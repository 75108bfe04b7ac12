#pragma once

#include <string>
#include <vector>

#include "support/process.h"

namespace brim::test {

/// Composes `images` small detection pictures into `folder`; its data.yaml is what runs read.
inline ProcessResult make_tiny_set(const std::string& folder, int images) {
  return run_brim({"data", "make", "--task", "detect", "--images", std::to_string(images), "--size",
                   "96", "--out", folder, "--seed", "3"});
}

/// Words of a short `brim train` on `data` into the run folder `output`.
inline std::vector<std::string> tiny_train(const std::string& data, const std::string& output,
                                           const std::vector<std::string>& more) {
  std::vector<std::string> words{"train",     "--data",    data,   "--model",
                                 "yolov5n",   "--img",     "64",   "--batch",
                                 "2",         "--workers", "1",    "--noval",
                                 "--noplots", "--output",  output, "data.index_dir=none"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace brim::test
