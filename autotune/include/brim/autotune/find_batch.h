#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "brim/autotune/search.h"

namespace brim::autotune {

/// One whole training step of the caller's own on made-up data of `batch` images: forward,
/// backward, optimiser. The worst case that the run will meet (largest size, most labels).
using StepFunction = std::function<void(std::int64_t batch)>;

struct FindBatchOptions {
  SearchSpace space{};
  Goal goal{};    ///< byte_budget 0: what machine and container allow this process
  int steps = 3;  ///< per size; the second already holds the optimiser's state
  /// Where the steps run. On a GPU all bytes are the device's, and byte_budget 0 is what is free.
  torch::Device device = torch::kCPU;
  /// Comes back as it was before: parameters, buffers, gradients and the default generator. Null:
  /// the steps leave their traces.
  torch::nn::Module* preserve = nullptr;
};

/// Measures `step` at two or three sizes in this process, below a hard cap of brim's CPU allocator
/// (installed if it is not yet), and chooses the micro-batch as brim's own trainer does. A size
/// that runs out of memory unwinds and counts as "does not fit". What the allocator does not see
/// (kernel kills, crashes) ends the process: use find_batch_isolated where that matters. Throws
/// Error, with the account, when not even the smallest batch fits.
///
///   const auto plan = autotune::find_batch(
///       [&](std::int64_t n) { train_step(*model, optimizer, made_up(n)); }, {.preserve =
///       &*model});
///   brim::Loader loader(data, transform, {.batch_size = plan.batch});
BatchPlan find_batch(const StepFunction& step, const FindBatchOptions& options = {});

/// What a probe process is asked.
struct ProbeRequest {
  std::int64_t byte_limit = 0;  ///< 0: none
  int steps = 3;
  torch::Device device = torch::kCPU;
};

/// The main hook of a program that measures itself in child processes of its own, so that whatever
/// kills a probe does not touch the run. First thing in main(): in a probe it takes the request off
/// the end of the arguments and puts the process under its limits; else it is empty.
///
///   int main(int argc, char** argv) {
///     const auto probe = brim::autotune::take_probe_request(argc, argv);
///     ... model, optimiser and `step` from argc, argv as always ...
///     if (probe) return brim::autotune::answer_probe(*probe, step);
///     const auto plan = brim::autotune::find_batch_isolated(argc, argv);
std::optional<ProbeRequest> take_probe_request(int& argc, char** argv);
/// Measures the sizes that standard input asks for, one a line, and answers on standard output;
/// the probe's exit code.
int answer_probe(const ProbeRequest& request, const StepFunction& step);
/// find_batch with all sizes in a child: this same program with the same arguments. A size that
/// ends it counts as "does not fit", and the next one gets a new child.
BatchPlan find_batch_isolated(int argc, char** argv, const FindBatchOptions& options = {},
                              double timeout_seconds = 120);

}  // namespace brim::autotune
