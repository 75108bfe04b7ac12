#pragma once

#include <memory>
#include <string>
#include <vector>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "brim/train/network.h"
#include "brim/train/objective.h"
#include "brim/train/trainer.h"
#include "config.h"
#include "console.h"

namespace brim::cli {

/// Turns a Config into what the Trainer needs. Every function throws Error naming the key at fault.

/// Threads, random seed, tensor memory: once per process, before the first tensor.
void prepare_compute(const Config& config, const std::shared_ptr<MemoryBudget>& budget);

/// What holds for all work on the configured device: its memory limit, measured algorithms. Takes
/// some of a GPU's memory itself: not before a probe process has had a look at it.
void prepare_device(const Config& config);
/// Decides what depends on the length of a run over `images` per epoch, where it is auto:
/// train.cudnn_search and train.nominal_batch.
void decide_by_length(Config& config, std::int64_t images);
/// Images per optimiser step that are aimed at; 64 while it is auto.
std::int64_t nominal_batch(const TrainSettings& train);

torch::Device device_of(const Config& config);

/// Throws Error where a detector cannot take images of the configured size.
void check_size(const Config& config, const Network& network);
/// The network for `dataset`, with `model.weights` transferred into it and, for detectors, anchors
/// checked against the labels; `console` hears what was done.
std::shared_ptr<Network> build_network(const Config& config, const Dataset& dataset, Task task,
                                       Console& console);
std::shared_ptr<Objective> build_objective(const Config& config, Network& network);

/// Learning rate of biases at the start of warm-up. YOLOv5's 0.1 is meant for SGD, whose steps
/// scale with the gradient; Adam's are as long as the rate says, so theirs begins at lr0.
double warmup_bias_rate(const TrainSettings& train);
/// Options of a run at `batch` images a step; `fingerprint` is that of the data of all machines.
TrainOptions training_options(const Config& config, const Network& network, const Dataset& dataset,
                              std::uint64_t fingerprint, std::int64_t batch);

/// Name prefixes of the first `model.freeze` layers. Throws Error when no other is left.
std::vector<std::string> frozen_prefixes(const Network& network, std::int64_t layers);

/// The first class whose name differs, as "class 1 is 'cat' in A and 'dog' in B"; empty: all agree.
std::string class_difference(const std::vector<std::string>& a, const std::string& name_of_a,
                             const std::vector<std::string>& b, const std::string& name_of_b);

/// Throws Error where no image of `dataset` has a label: nothing can be learnt from it.
void require_labels(const Dataset& dataset, const Config& config);
/// Tells the user where no image of `dataset` has a label: every figure will be 0.
void warn_of_no_labels(const Dataset& dataset, Console& console);

/// Prints the first warnings of `dataset` and how many there are in all.
void show_warnings(const Dataset& dataset, Console& console);

}  // namespace brim::cli
