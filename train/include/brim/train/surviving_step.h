#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>
#include <string>

#include "brim/dataloader/torch/tensor_batch.h"
#include "brim/train/training_scope.h"

namespace brim {

/// Images [first, first + batch.size()) of `whole`, to be run forward and backward at once.
struct StepPart {
  const TensorBatch& batch;
  const TensorBatch& whole;
  std::int64_t first = 0;  ///< 0: a new attempt begins
};

/// How a step went.
struct SurvivedStep {
  std::int64_t part = 0;     ///< images per part
  int parts = 1;             ///< micro-batches the batch was run as
  bool reduced = false;      ///< memory ran out and the step was repeated
  std::string why{};         ///< what the allocator said, where it was
  std::int64_t allowed = 0;  ///< images of this size per part from now on; 0: no bound known
};

struct SurvivingStepOptions {
  std::int64_t micro_batch = 0;  ///< most images per part; 0: the batch
  /// Steps without a failure after which a larger part is tried again; doubled after each attempt
  /// that failed. 0: never.
  std::int64_t grow_after = 200;
  /// Whether other ranks run the same parts at the same time: the step is then not repeated when
  /// memory runs out here, and parts change by limit() only.
  enum class Ranks : std::uint8_t { Alone, Together } ranks = Ranks::Alone;
  /// Asked before parts of `images` become smaller; true: something else was changed so that a step
  /// takes less, and the same parts are tried again.
  std::function<bool(std::int64_t images)> instead{};
};

namespace detail {
/// What LibTorch's backward engine leaves on a thread when a node fails: the nodes still to run,
/// and through them the graph with all it holds, until the engine next runs there. To be made
/// before the graphs in question: newer nodes run first.
class BackwardQueue {
 public:
  BackwardQueue();
  /// Lets the engine drop them. Needs next to no memory; does nothing where not even that is left.
  void clear();

 private:
  torch::Tensor leaf_, root_;
};
}  // namespace detail

/// Forward and backward of anybody's model that survive running out of memory: the step is undone
/// (gradients, batch-norm statistics and generator as before) and the same samples are run again as
/// smaller parts. How small is computed from what earlier steps took, and learnt. One thread; owned
/// by the training loop.
///
///   SurvivingStep step(*model);
///   step.run(batch, [&](const StepPart& part) {
///     loss_of(model->forward(normalize_images(part.batch.images)), part.batch).backward();
///   });                                     // losses of parts are to be sums, or shares of
///   `whole` optimizer.step(); optimizer.zero_grad();
class SurvivingStep {
 public:
  using Pass = std::function<void(const StepPart&)>;

  explicit SurvivingStep(torch::nn::Module& network, torch::Device device = torch::kCPU,
                         const SurvivingStepOptions& options = {});

  /// Runs `pass` over `batch` in as few parts as memory allows. `pixels` per image (0: those of the
  /// batch) say how large the network sees them. Everything but out-of-memory is passed on, and
  /// brim::Error is thrown when not even a single image fits; the network is then as before.
  SurvivedStep run(const TensorBatch& batch, const Pass& pass, std::int64_t pixels = 0);

  /// While a step runs: gradients accumulated before it, of each parameter of the network.
  const std::vector<torch::Tensor>& set_aside() const { return snapshot_.set_aside(); }
  /// Steps that ran out of memory so far.
  std::int64_t failures() const { return failures_; }
  /// Parts of at most `pixels` from now on, as after a failure: for whoever sees memory run short.
  void limit(std::int64_t pixels);

 private:
  std::int64_t part_size(std::int64_t images, std::int64_t pixels) const;
  bool attempt(const TensorBatch& batch, std::int64_t part, const Pass& pass, std::string& why);
  bool reduce(std::int64_t images, std::int64_t pixels);
  std::int64_t room() const;
  void learn(std::int64_t part_pixels);
  void maybe_grow();

  torch::Device device_;
  SurvivingStepOptions options_;
  StepSnapshot snapshot_;
  detail::BackwardQueue backward_queue_;
  std::int64_t allowed_pixels_ = 0;  // most pixels a part may have; 0: no bound known
  std::int64_t failed_pixels_ = 0;   // least that failed
  double bytes_per_pixel_ = 0;       // the most a successful part took
  std::int64_t peak_bytes_ = 0;      // of the last attempt, above what was live before
  std::int64_t calm_steps_ = 0, grow_after_ = 0, failures_ = 0;
};

namespace detail {
/// Images [begin, end) of a batch with their targets, classes and samples.
TensorBatch slice(const TensorBatch& batch, std::int64_t begin, std::int64_t end);
/// Frees what can be freed on `device` and runs `action` again when memory ran out. For short work
/// that may be begun twice.
void with_memory(torch::Device device, const std::function<void()>& action);
}  // namespace detail
}  // namespace brim
