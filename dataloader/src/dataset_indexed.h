#pragma once

#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "dataset_index.h"

namespace brim::detail {

/// A Dataset over a SampleIndex: YOLO, ImageFolder, COCO and tar shards.
class IndexedDataset : public Dataset {
 public:
  IndexedDataset(SampleIndex index, std::uint64_t fingerprint)
      : index_(std::move(index)), fingerprint_(fingerprint) {}
  std::int64_t size() const override { return index_.size(); }
  Record record(std::int64_t i, RecordScratch& scratch) const override {
    return index_.record(i, scratch);
  }
  Task task() const override { return index_.task; }
  const std::vector<std::string>& class_names() const override { return index_.class_names; }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  std::string path(std::int64_t i) const override { return index_.shown_path(i); }
  const std::vector<DatasetWarning>& warnings() const override { return index_.warnings; }
  const SampleIndex& index() const { return index_; }

 private:
  SampleIndex index_;
  std::uint64_t fingerprint_;
};

}  // namespace brim::detail
