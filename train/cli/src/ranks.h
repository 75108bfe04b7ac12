#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

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
  /// Makes sure that all have the same data.
  void compare_data(std::uint64_t fingerprint) const;
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }
  /// `share` of the CPUs or bytes of this machine for each of its ranks, at least 1.
  std::int64_t share(std::int64_t of_machine) const;

 private:
  void compare(const std::string& text) const;

  RankPlace place_;
  std::shared_ptr<ProcessGroup> group_ = make_single_process();
};

/// Whether both texts of settings are the same; else the first line that differs, of each.
struct Difference {
  std::string mine, theirs;
};
std::optional<Difference> first_difference(const std::string& mine, const std::string& theirs);

}  // namespace brim::cli
