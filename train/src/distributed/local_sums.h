#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#include "brim/train/process_group.h"

namespace brim::detail {

/// Reductions of a few numbers among the ranks of one machine, through memory that they share: some
/// microseconds where a round through sockets and threads takes a thousand. Batch norms that share
/// their statistics need a hundred of them per step. One thread per rank; all ranks make the same
/// calls.
class LocalSums {
 public:
  /// All ranks call it; null for all of them where they are not on one machine, or where one of
  /// them cannot reach the memory (other containers, no /proc).
  static std::unique_ptr<LocalSums> make(const RankPlace& place, c10d::Store& store);
  ~LocalSums();
  LocalSums(const LocalSums&) = delete;
  LocalSums& operator=(const LocalSums&) = delete;

  /// Whether gather() takes it: few enough bytes, on the CPU and in one piece.
  bool holds(const torch::Tensor& tensor) const;
  /// Whether reduce() takes it: of a common type as well.
  bool takes(const torch::Tensor& tensor) const;
  /// As ProcessGroup::reduce(): in the order of ranks, so that every rank gets the same bits.
  /// Throws std::runtime_error when the process of another rank has ended.
  void reduce(const torch::Tensor& tensor, Reduction reduction);
  /// As ProcessGroup::gather().
  std::vector<torch::Tensor> gather(const torch::Tensor& tensor);

 private:
  struct Place;
  LocalSums(const RankPlace& place, void* memory, std::vector<int> processes);
  Place& of(int rank) const;
  void wait_for(int rank) const;
  /// Shows `tensor` to all ranks and waits for theirs; returns the buffer that these are in.
  std::size_t publish(const torch::Tensor& tensor);

  int rank_, size_;
  std::byte* memory_;
  std::vector<int> processes_;  ///< descriptors that become readable when one ends, by rank
  std::uint32_t round_ = 0;
};

}  // namespace brim::detail
