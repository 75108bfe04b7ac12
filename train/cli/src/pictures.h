#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brim/train/batch_source.h"
#include "brim/train/observer.h"
#include "brim/train/plots.h"

namespace brim::cli {

/// Name of a class; its number where there is none (validation data may lack the last classes).
std::string class_name(const std::vector<std::string>& names, std::int64_t class_id);

/// Captions of a classifier's pictures: the name of each image's class. Others stay as they are.
void caption_classes(std::vector<Picture>& pictures, const TensorBatch& batch,
                     const std::vector<std::string>& class_names);

/// Passes batches through and draws the first three of a run as train_batch<N>.jpg, each once it
/// was trained on: the time that takes is none that the training waited for data.
class PictureSource final : public BatchSource, public Observer {
 public:
  /// Draws nothing where `folder` is empty.
  PictureSource(BatchSource& source, std::string folder, std::vector<std::string> class_names);
  std::int64_t batches_per_epoch() const override { return source_.batches_per_epoch(); }
  void start(std::int64_t epoch, std::int64_t first_batch) override;
  std::optional<TensorBatch> next() override;
  double cache_hit_rate() const override { return source_.cache_hit_rate(); }
  void on_step(const StepEvent& event) override;

 private:
  BatchSource& source_;
  std::string folder_;
  std::vector<std::string> class_names_;
  std::optional<TensorBatch> trained_on_{};  ///< to be drawn
  int drawn_ = 0;
};

/// results.png from results.csv, both in `folder`. Does nothing without the file.
void draw_results(const std::string& folder);

}  // namespace brim::cli
