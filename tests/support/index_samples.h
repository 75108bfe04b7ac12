#pragma once

#include <string>

#include "dataloader/src/index_cache.h"

namespace brim::test {

/// Two samples with boxes, a polygon and a warning.
inline detail::SampleIndex small_index() {
  detail::SampleIndex index;
  index.class_names = {"a", "b"};
  index.warnings = {{"f", 3, "r"}};
  const std::uint32_t folder = index.add_directory("/x");
  index.add(folder, "1.jpg");
  index.add(folder, "2.jpg").label = 1;
  index.boxes.push_back({1, .5f, .5f, .1f, .1f});
  index.boxes.push_back({0, .5f, .5f, .2f, .1f});
  index.points.resize(6);
  index.polygons.push_back({1, 0, 6});
  return index;
}

inline detail::SourceDigest digest_of(const std::string& text) {
  detail::SourceDigest digest;
  digest.add(text);
  return digest;
}

}  // namespace brim::test
