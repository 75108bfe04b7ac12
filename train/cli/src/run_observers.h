#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adaptive_source.h"
#include "brim/cache/store.h"
#include "brim/train/observer.h"
#include "brim/train/process_group.h"
#include "console.h"
#include "evaluation.h"
#include "run_folder.h"

namespace brim::cli {

/// Tells the user once what is wrong with the cache, and once that entries were damaged.
class CacheComplaint {
 public:
  /// `cache` may be null.
  CacheComplaint(Console& console, std::shared_ptr<Store> cache)
      : console_(console), cache_(std::move(cache)) {}
  void tell();

 private:
  Console& console_;
  const std::shared_ptr<Store> cache_;
  std::string told_{};
  bool told_of_damage_ = false;
};

/// Keeps the run folder once there is something to show: the first step went well. What an earlier
/// training left there goes then.
class KeepingFolder final : public Observer {
 public:
  /// `folder`: null where another rank has it; `fresh`: the run does not go on with what is there.
  KeepingFolder(RunFolder* folder, bool fresh) : folder_(folder), fresh_(fresh) {}
  void on_step(const StepEvent& event) override;

 private:
  RunFolder* folder_;
  bool fresh_, kept_ = false;
};

/// Marks the evaluation of the best epoch, whose weights are in best.pt.
class BestMark final : public Observer {
 public:
  explicit BestMark(Evaluation& evaluation) : evaluation_(evaluation) {}
  void on_epoch(const EpochEvent& event) override;
  /// Of an epoch of this session.
  const std::optional<EvaluationSummary>& best() const { return best_; }

 private:
  Evaluation& evaluation_;
  std::optional<EvaluationSummary> best_{};
};

/// Brings what every rank has met of bad files into rank 0's list, after each epoch.
class SharedQuarantine final : public Observer {
 public:
  SharedQuarantine(const AdaptiveSource& source, ProcessGroup& group, std::string file)
      : source_(source), group_(group), file_(std::move(file)) {}

  void on_epoch(const EpochEvent& event) override;
  /// Called by all ranks.
  void collect();
  /// Bad files that rank 0 knows of.
  std::size_t count() const { return met_.size(); }
  const std::string& file() const { return file_; }

 private:
  const AdaptiveSource& source_;
  ProcessGroup& group_;
  std::string file_;
  std::vector<QuarantineEntry> met_{};
};

}  // namespace brim::cli
