#pragma once

#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/image.h"

namespace brim::cli {

/// Images without labels: files, every image below a folder, what a pattern such as "photos/*.jpg"
/// matches, or the lines of a list file (.txt).
class ImageFiles final : public Dataset {
 public:
  /// Throws Error when one of `sources` names no image.
  explicit ImageFiles(const std::vector<std::string>& sources);
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  Record record(std::int64_t index, RecordScratch& scratch) const override;
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return no_names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t index) const override;

  /// File name without its ending, numbered where another file has the same.
  std::string unique_stem(std::int64_t index) const;
  /// The whole image. Throws Error.
  void decode(std::int64_t index, Image& image) const;

 private:
  struct File {
    std::string path, stem;
    std::int64_t bytes = 0, mtime_ns = 0;
  };
  std::vector<File> files_;
  std::vector<std::string> no_names_{};
};

}  // namespace brim::cli
