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
  /// What the last summary() found (of no image before it), or the best one: see show_best().
  const EvaluationResult& result() const { return outcome_->result; }
  /// Keeps what the last summary() found, for show_best().
  void mark_best() { best_ = outcome_; }
  /// From now on result(), tables and pictures are those of the best. False where none was marked.
  bool show_best();
  /// Tells of the files that could not be read: they are in no figure.
  void warn_of_unreadable(Console& console) const;
  std::vector<QuarantineEntry> unreadable() const { return loader_->quarantine(); }
  void print_table(Console& console) const;
  /// Curves and confusion matrix of result(), and pictures of its first images.
  void draw(const std::string& folder) const;
  std::string to_json() const;

 private:
  void keep_pictures(const EvaluatedBatch& batch);

  std::shared_ptr<const Dataset> data_;
  NmsOptions nms_;
  Precision precision_;
  std::shared_ptr<ProcessGroup> group_;
  std::unique_ptr<Loader> loader_;
  bool keeps_pictures_;
  struct Outcome {
    EvaluationResult result{};
    std::vector<KeptPicture> labelled{};
    std::vector<std::vector<PictureBox>> found{};
  };
  std::shared_ptr<Outcome> outcome_ = std::make_shared<Outcome>(), best_{};
};

}  // namespace brim::cli
