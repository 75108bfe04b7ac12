#include "smallest_budget.h"

#include <algorithm>
#include <optional>

#include "account.h"
#include "brim/cache/error.h"
#include "brim/train/compat.h"
#include "evaluation.h"
#include "experiment.h"

namespace brim::cli {
namespace {

constexpr std::int64_t kUntouched = std::int64_t{64} << 20;

/// What a loader of `options` takes at least.
std::int64_t loader_bytes(LoaderOptions options, const Dataset& data, const Transform& transform) {
  if (options.prefetch_batches == kAuto) options.prefetch_batches = 1;
  const auto enough = MemoryBudget::make({.byte_limit = INT64_MAX / 2});
  return make_plan(options, data, transform, *enough).total_bytes;
}

/// What a step on one image takes, without the program and its loader; empty where the weights
/// alone do not fit.
std::optional<std::int64_t> step_bytes(Config config, int classes) {
  constexpr std::int64_t kBoxes = 128;
  config.train.img = largest_side(config);
  if (config.train.activation_checkpointing == "auto") config.train.activation_checkpointing = "on";
  const auto one = account_of_one(config, classes, kBoxes);
  if (one) return one->total() - one->loader - one->runtime;
  return bytes_of_small_step(config, classes);
}

std::string first_line(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  const std::string text = ours != nullptr ? ours->message() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace

bool is_about_memory(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  return ours != nullptr ? ours->where().key.starts_with("memory") : is_out_of_memory(error);
}

void refuse_memory(const RefusedTraining& refused, const std::exception& found) {
  const auto& [config, data, validation, task, budget] = refused;
  const std::int64_t batch = count_or_auto(config.train.batch, "train.batch");
  const auto step = step_bytes(config, static_cast<int>(data.class_names().size()));
  if (!step)
    throw Error(first_line(found), {.key = "memory.limit"},
                "not even the weights of " + config.model.name + " fit: choose a smaller model");
  std::int64_t needed = *step + *step / 8;  // fragments, and whole chunks of the pool
  // Under these limits counts what is mapped and never touched: stacks, arenas, code. Of address
  // space the pool sets three quarters of the room aside, and the rest must do for all that.
  const std::string decided_by = budget.limits().decided_by;
  if (decided_by == "RLIMIT_AS") needed += needed / 3 + 2 * kUntouched;
  if (decided_by == "RLIMIT_DATA") needed += kUntouched;
  needed += loader_bytes(training_loader(config, data, batch, nullptr, nullptr), data,
                         *training_transform(config, task));
  if (validation != nullptr)
    needed += loader_bytes(Evaluation::loader(config, batch, nullptr), *validation,
                           *evaluation_transform(config, task));
  for (const MemoryBudget::Holder& holder : budget.holders())
    if (holder.name == "process" || holder.name == "lmdb writer") needed += holder.bytes;
  // What was tried did not do, whatever the sum says.
  needed = std::max(needed, budget.limit() + budget.limit() / 16);
  throw Error(first_line(found), {.key = "memory.limit"},
              budget.remedy(needed - budget.reserved()) +
                  "; smaller images, a smaller model or batch need less");
}

}  // namespace brim::cli
