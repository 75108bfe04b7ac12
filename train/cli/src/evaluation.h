#pragma once

#include <memory>
#include <string>
#include <vector>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/loader.h"
#include "brim/train/evaluate.h"
#include "config.h"
#include "console.h"
#include "pictures.h"

namespace brim::cli {

/// Evaluates a network on one split, again and again with the same loader.
class Evaluation {
 public:
  /// `training_batch`: what `val.batch: auto` is twice of. Ranks of `group` share the images; each
  /// gets the whole result.
  Evaluation(const Config& config, std::shared_ptr<const Dataset> data, std::int64_t training_batch,
             const std::shared_ptr<MemoryBudget>& budget,
             std::shared_ptr<ProcessGroup> group = make_single_process());

  /// Options of the loader that the first of `ranks` ranks makes.
  static LoaderOptions loader(const Config& config, std::int64_t training_batch,
                              const std::shared_ptr<MemoryBudget>& budget, int ranks = 1);

  EvaluationSummary summary(Network& network, torch::Device device, Objective* objective = nullptr);
  /// Of the last summary().
  const EvaluationResult& result() const { return result_; }
  /// Tells of the files that could not be read in it: they are in no figure.
  void warn_of_unreadable(Console& console) const;
  void print_table(Console& console) const;
  /// Curves and confusion matrix of the last summary(), and pictures of its first images.
  void draw(const std::string& folder) const;
  std::string to_json() const;

 private:
  void keep_pictures(const EvaluatedBatch& batch);

  std::shared_ptr<const Dataset> data_;
  NmsOptions nms_;
  Precision precision_;
  std::shared_ptr<ProcessGroup> group_;
  std::unique_ptr<Loader> loader_;
  EvaluationResult result_{};
  std::vector<OwnedPicture> labelled_{};
  std::vector<std::vector<PictureBox>> found_{};
};

}  // namespace brim::cli
