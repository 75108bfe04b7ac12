#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>

#include "brim/cache/memory_budget.h"
#include "brim/cache/store.h"
#include "brim/dataloader/decode.h"
#include "brim/dataloader/sampler.h"

namespace brim {

class Dataset;
class Transform;

enum class Order : std::uint8_t { Sequential, Shuffled };
/// Where mosaic and mixup partners come from: the preceding samples of the same shuffled order
/// (each image is decoded once), or anywhere.
enum class Partners : std::uint8_t { Window, Uniform };
enum class CacheContent : std::uint8_t { Encoded, Decoded };
enum class LastBatch : std::uint8_t { Keep, Drop };

inline constexpr int kAuto = -1;
/// LoaderOptions::fill_share that keeps everything in the cache the first time it is made.
inline constexpr double kFillAtOnce = 1;

/// What the user wishes of a loader. Fields may be kAuto.
struct LoaderOptions {
  std::int64_t batch_size = 16;
  int workers = kAuto;           ///< decoding threads; 0: on the consumer's thread
  int prefetch_batches = kAuto;  ///< finished batches kept ready
  int niceness = 10;             ///< of the workers, added to the process's own (0..19)
  std::uint64_t seed = 0;
  Order order = Order::Shuffled;
  std::shared_ptr<const Sampler> sampler{};  ///< replaces `order` where given
  LastBatch last_batch = LastBatch::Keep;
  int rank = 0;  ///< this process's share of every global batch (batch_size is per rank)
  int ranks = 1;
  /// Batches of an epoch where ranks with other data have more of them (LastBatch::Keep); 0: as
  /// many as the data makes. Batches are then filled up to their full size, and samples of a filled
  /// one say so (SampleInfo::padding).
  std::int64_t epoch_batches = 0;
  Partners partners = Partners::Window;
  int window = 16;  ///< samples of one lane that partners are drawn from
  int lanes = 8;    ///< independent windows (position mod lanes); a multiple of ranks
  DecodeLimits decode{};
  std::shared_ptr<Store> cache{};
  CacheContent cache_content = CacheContent::Decoded;
  /// Share of the workers' busy time that filling the cache may take in the loader's first epoch,
  /// eight times as much in each further one (0..1); the time in which they have nothing to do is
  /// free.
  double fill_share = 0.02;
  std::shared_ptr<MemoryBudget> budget{};  ///< null: a budget of its own
  /// Where batches' pixels lie, allocated once per slot from any thread; null: ordinary memory.
  /// brim::pinned_memory() gives a GPU direct access.
  std::shared_ptr<std::pmr::memory_resource> slot_memory{};
  double max_bad_fraction = 0.01;
  std::string quarantine_file{};  ///< where bad files are listed; empty: kept in memory only
};

/// The same with every value decided.
struct LoaderPlan {
  std::int64_t batch_size = 0;
  int workers = 0;
  int prefetch_batches = 0;
  std::int64_t slots = 0;  ///< batches in memory: the ready ones and the consumer's
  std::int64_t slot_bytes = 0;
  std::int64_t scratch_bytes = 0;  ///< of all workers, upper estimate
  std::int64_t window_bytes = 0;   ///< decoded partners held, upper estimate
  std::int64_t total_bytes = 0;    ///< what the loader will reserve without the cache
  bool shares_window = false;      ///< partners are decoded once and shared by several samples
};

/// Decides every value that `options` leaves open, from the CPUs this process may use and what
/// `budget` has to give now that the machine was looked at again. Throws Error on settings that
/// cannot work; a budget that is too small is refused with the smallest that does.
LoaderPlan make_plan(const LoaderOptions& options, const Dataset& dataset,
                     const Transform& transform, MemoryBudget& budget);

}  // namespace brim
