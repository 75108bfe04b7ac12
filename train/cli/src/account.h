#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "brim/autotune/memory_account.h"
#include "brim/autotune/search.h"
#include "config.h"
#include "console.h"

namespace brim::cli {

/// What a probe of `config` runs: its network options, worst case and numbers.
autotune::TrainingProbeOptions probe_options(const Config& config, const Network& network,
                                             std::int64_t boxes);

/// The account of a training step of `config` at its image size and `batch`, measured in this
/// process: at that size when it is small, else at a few small images and scaled.
autotune::MemoryAccount account_of(const Config& config, int classes, std::int64_t boxes,
                                   std::int64_t batch);

/// The same for a single image, always from small ones: what fits where one image does not. Empty
/// where not even small ones are sure to fit in what the machine or control group leaves.
std::optional<autotune::MemoryAccount> account_of_one(const Config& config, int classes,
                                                      std::int64_t boxes);
/// What a step on small images takes at the most, beside the program; empty where not even the
/// weights fit.
std::optional<std::int64_t> bytes_of_small_step(const Config& config, int classes);

/// As a table; `layers`: how many of the largest layers are listed one by one.
std::string account_table(const autotune::MemoryAccount& account, std::size_t layers);
std::string account_json(const autotune::MemoryAccount& account);

/// Refuses a budget that one image does not fit in, with the account and the remedies. `found` says
/// what was tried.
[[noreturn]] void refuse_budget(const Config& config, int classes, std::int64_t boxes,
                                const autotune::Goal& goal, const std::string& found);

}  // namespace brim::cli
