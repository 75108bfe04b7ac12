#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/loader_options.h"
#include "brim/train/network.h"
#include "brim/train/process_group.h"
#include "config.h"
#include "console.h"

namespace brim::cli {

/// Reads a variable; empty where it is not set.
using Variables = std::function<std::string(const char*)>;

/// Where this process stands among the ranks, from the variables of torchrun (and brim launch),
/// mpirun (OMPI_*, PMI_*) or Slurm; none of them: alone. Throws Error naming the variable at fault.
RankPlace place_from(const Variables& variables);
/// The first host of a Slurm node list: "node[03-05,9],gpu1" begins with "node03".
std::string first_host(const std::string& nodes);

/// Where a rank says that it is.
struct RankHost {
  std::string host{};
  int local_rank = 0;
};

/// The part of the training data that a rank's machine has, and the rank's place among those who
/// share that part.
struct DataPart {
  int part = 0, parts = 1;
  int rank = 0, ranks = 1;
};
/// One part for each machine, in the order of their lowest ranks; `all` by rank. Ranks of one host
/// with the same local rank count as of several machines (containers may share a host's name).
DataPart part_of(const std::vector<RankHost>& all, int rank);

/// What all parts of the training data are together.
struct WholeData {
  std::uint64_t fingerprint = 0;       ///< where there are several: and their shares of a batch
  std::vector<std::int64_t> images{};  ///< by part
};

/// The ranks of this run, and what they settle together before the first step.
class Ranks {
 public:
  /// Reads the environment; meets nobody.
  Ranks();
  const RankPlace& place() const { return place_; }
  bool alone() const { return place_.size == 1; }
  bool root() const { return place_.rank == 0; }

  /// Meets the others and makes sure that they have the same settings. The process ends with a
  /// message when another rank fails later on.
  void meet(const Config& config);
  /// All of the training data, or where machines divide its shards, what this one's opens.
  const DataPart& part() const { return part_; }
  /// Makes sure that all have the same data, or parts of it that fit together.
  WholeData compare_data(const Dataset& data) const;
  /// Gives a loader of `data` this rank's share of every epoch; all ranks get as many batches.
  void take_samples(LoaderOptions& options, const Dataset& data) const;
  /// Rank 0 has looked at the labels of its part: all take its anchors.
  void take_anchors(Network& network) const;
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }
  /// `share` of the CPUs or bytes of this machine for each of its ranks, at least 1.
  std::int64_t share(std::int64_t of_machine) const;

 private:
  void compare(const std::string& text,
               const char* hint = "start every rank with the same command, program and data") const;
  void divide_by_machine();

  RankPlace place_;
  DataPart part_;
  std::shared_ptr<ProcessGroup> group_ = make_single_process();
};

/// Whether both texts of settings are the same; else the first line that differs, of each.
struct Difference {
  std::string mine, theirs;
};
std::optional<Difference> first_difference(const std::string& mine, const std::string& theirs);

}  // namespace brim::cli
