#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"
#include "brim/cache/stores.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/loader_options.h"
#include "brim/dataloader/transform.h"
#include "config.h"

namespace brim::cli {

/// Turns the words of a Config into the objects that commands work with. Every function throws
/// Error naming the key at fault.

/// `text` of `key` as a count; "auto" and "-1" become kAuto.
std::int64_t count_or_auto(const std::string& text, const std::string& key);

/// `text` of `key` as a number that is not negative; `automatic` for "auto".
double number_or_auto(const std::string& text, const std::string& key, double automatic);

/// The part `split` of the configured data, through the index cache of the user's cache folder.
std::shared_ptr<const Dataset> open_data(const Config& config, Split split, int part = 0,
                                         int parts = 1);
/// What sides of images are multiples of, by the model's name: of a detector of the user's own the
/// most that there is.
std::int64_t stride_of(const std::string& model);
/// The longest side of a training image: with multi-scale half as much again, brought up to a
/// multiple of the network's stride.
std::int64_t largest_side(const Config& config);
/// What is learnt: as configured, else what `dataset` is. Throws Error when it cannot be learnt.
Task task_of(const Config& config, const Dataset& dataset);

/// What a command's libraries come to hold beyond what is reserved, once they are at work.
struct Growth {
  static constexpr std::int64_t kLoader = std::int64_t{16} << 20;
  static constexpr std::int64_t kNetwork = std::int64_t{64} << 20;
};
/// A budget of `byte_limit` (0: what the machine allows) that counts this process as it is, and
/// `growth` bytes besides. `workers`: threads that the loader may have.
std::shared_ptr<MemoryBudget> make_budget(std::int64_t byte_limit, std::int64_t growth,
                                          int workers);
/// As configured, for a command that runs a network.
std::shared_ptr<MemoryBudget> make_budget(const Config& config);
/// Replaces "auto" in loader.cache and loader.content by what a sample of `dataset` says; returns
/// the line that tells the user why, empty where nothing was left open.
std::string decide_cache(Config& config, const Dataset& dataset, const Transform& transform,
                         std::int64_t batch, const std::shared_ptr<MemoryBudget>& budget);
/// The configured data by its absolute path.
std::string data_identity(const Config& config);
/// Notes what a cache on disk is used for, so that `brim cache gc` keeps its entries.
void note_use(const Config& config, Split split, const Transform& transform,
              const LoaderOptions& options);
/// Folder of the caches on disk.
std::string cache_directory(const Config& config);
/// Null when no cache is wanted.
std::shared_ptr<Store> make_cache(const Config& config, std::shared_ptr<MemoryBudget> budget);

std::shared_ptr<const Transform> training_transform(const Config& config, Task task);
std::shared_ptr<const Transform> evaluation_transform(const Config& config, Task task);

/// Options of the training loader: order, augmentation partners, cache, budget and bad-file rules.
LoaderOptions training_loader(const Config& config, const Dataset& dataset, std::int64_t batch,
                              std::shared_ptr<Store> cache, std::shared_ptr<MemoryBudget> budget);
/// Options of an evaluation loader: every sample once, in order.
LoaderOptions evaluation_loader(const Config& config, std::int64_t batch,
                                std::shared_ptr<Store> cache, std::shared_ptr<MemoryBudget> budget);

/// Compute threads: as configured, else every CPU this process may use.
int compute_threads(const Config& config);

}  // namespace brim::cli
