#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "brim/train/process_group.h"

namespace brim::detail {

/// Sums gradients over ranks while the backward pass still runs: they are gathered into buckets in
/// the reverse order of the parameters, and a bucket travels as soon as it is full. Owned by the
/// trainer; its thread.
///
///   reducer.arm(set_aside);      // before the last backward pass of an accumulation window
///   loss.backward();
///   reducer.finish();            // the gradients are the sums of all ranks
class GradientReducer {
 public:
  /// Buckets of at most `bucket_bytes`, but several also for small networks.
  GradientReducer(torch::nn::Module& network, std::shared_ptr<ProcessGroup> group,
                  std::int64_t bucket_bytes = std::int64_t{25} << 20);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// `set_aside`: of each parameter of the network, what joins its gradient (undefined: nothing);
  /// must live until finish().
  void arm(const std::vector<torch::Tensor>& set_aside);
  /// Starts what the backward pass left out, waits, and puts the sums where gradients are.
  void finish();
  std::size_t buckets() const { return buckets_.size(); }

 private:
  struct Entry {
    torch::Tensor parameter;
    std::size_t number = 0;  ///< among the parameters of the network
    std::size_t bucket = 0;
    torch::Tensor place;  ///< in the bucket, in the parameter's strides
    bool ready = false;
    std::shared_ptr<torch::autograd::Node> accumulator;
    std::uintptr_t hook = 0;
  };
  struct Bucket {
    torch::Tensor values;
    std::int64_t numel = 0;
    std::size_t missing = 0, entries = 0;
    std::unique_ptr<PendingCollective> travelling;
  };
  class Hook;

  void make_buckets(std::int64_t bucket_bytes);
  void take(Entry& entry);
  void start_full();

  std::shared_ptr<ProcessGroup> group_;
  std::vector<Entry> entries_;  // in reverse order: the last layer's gradients come first
  std::vector<Bucket> buckets_;
  std::size_t next_ = 0;  // bucket to travel next: the same order on every rank
  const std::vector<torch::Tensor>* set_aside_ = nullptr;  // null: not armed
};

}  // namespace brim::detail
