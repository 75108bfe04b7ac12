#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace brim {

/// A collective that was started. Destroying it without wait() is allowed once it is over.
class PendingCollective {
 public:
  virtual ~PendingCollective() = default;
  /// Returns when the result is in place. Throws Error when a rank has ended or the time is over.
  virtual void wait() = 0;
};

enum class Reduction : std::uint8_t { Sum, Min, Max };

/// The processes that train one model together, seen from one of them. Every rank makes the same
/// calls in the same order; tensors have the same shape, type and device everywhere. Sums come out
/// with the same bits on every rank. Throws Error when another rank has ended. One thread per
/// instance, except that start_sum() may be called from a backward pass.
///
///   auto group = connect({.rank = 0, .size = 2, .port = 29500});
///   group->reduce(losses, Reduction::Sum);
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Begins to replace `tensor` by its sum over the ranks. These may be in flight while the
  /// functions below are called: they travel on connections of their own.
  virtual std::unique_ptr<PendingCollective> start_sum(torch::Tensor tensor) = 0;
  virtual void reduce(torch::Tensor tensor, Reduction reduction) = 0;
  /// `tensor` of every rank, by rank.
  virtual std::vector<torch::Tensor> gather(const torch::Tensor& tensor) = 0;
  virtual void broadcast(torch::Tensor tensor, int root) = 0;
  /// Leaves the group in good order: the others are not told that this rank has failed.
  virtual void leave() = 0;
};

/// One process that is alone; every function returns at once.
std::shared_ptr<ProcessGroup> make_single_process();

/// Rows [M_r, ...] of every rank, whose number may differ; by rank.
std::vector<torch::Tensor> gather_rows(ProcessGroup& group, const torch::Tensor& rows);
/// `text` of every rank, by rank.
std::vector<std::string> gather_text(ProcessGroup& group, const std::string& text);
/// `value` of rank 0.
std::string text_of_root(ProcessGroup& group, const std::string& text);
/// The smallest `value` of any rank.
std::int64_t smallest(ProcessGroup& group, std::int64_t value);

/// Where a process stands among those that train together, and how they meet.
struct RankPlace {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  ///< among those of this machine
  std::string address = "127.0.0.1";   ///< of the machine of rank 0
  int port = 29500;
  bool store_is_there = false;  ///< torchrun's agent already serves the meeting point
  std::string interface {};     ///< network interface to bind to; empty: the one of the host's name
};

struct ConnectOptions {
  torch::Device device = torch::kCPU;              ///< of the training; CPU tensors travel by Gloo
  std::chrono::milliseconds meet_timeout{60'000};  ///< until all ranks must have come
  /// A rank that gives no sign of life for so long has failed.
  std::chrono::milliseconds silence_timeout{40'000};
  /// Longest that ranks wait in one collective for one that lives (it tunes, evaluates, saves).
  std::chrono::milliseconds collective_timeout{1'800'000};
  /// Called once, on a thread of its own, with what to tell the user when another rank has failed
  /// while this one may be waiting for it. Expected to end the process.
  std::function<void(const std::string& message)> on_failure{};
};

/// Meets the other ranks through c10d. Throws Error: the port is taken, ranks did not come (which),
/// this LibTorch has no distributed engine or no NCCL.
std::shared_ptr<ProcessGroup> connect(const RankPlace& place, const ConnectOptions& options = {});

}  // namespace brim
