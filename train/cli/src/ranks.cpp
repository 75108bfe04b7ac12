#include "ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "brim/cache/error.h"
#include "training.h"

namespace brim::cli {
namespace {

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int number_of(const Variables& variables, const char* name, int otherwise) {
  const std::string text = variables(name);
  if (text.empty()) return otherwise;
  int value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value < 0)
    throw Error("expected a number that is not negative, found '" + text + "'", {.key = name});
  return value;
}

/// Names under which one way of starting says where a process stands.
struct Names {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
constexpr Names kNames[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    // Only srun sets it: a batch script's own shell is no rank.
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"},
};

/// Slurm's "2(x3)" or "2,1" begins with the count of this step's first node.
int first_count(const std::string& text, int otherwise) {
  int value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && value > 0 ? value : otherwise;
}

void find_root(const Variables& variables, RankPlace& place) {
  const std::string address = variables("MASTER_ADDR");
  const std::string nodes = variables("SLURM_STEP_NODELIST");
  if (!address.empty()) {
    place.address = address;
  } else if (!nodes.empty()) {
    place.address = first_host(nodes);
  } else if (place.local_size < place.size) {
    throw Error("ranks on several machines need the address of rank 0's", {.key = "MASTER_ADDR"},
                "set it to that machine's name, as in mpirun -x MASTER_ADDR=node1");
  }
  const int job = number_of(variables, "SLURM_JOB_ID", 0);
  place.port = number_of(variables, "MASTER_PORT", job > 0 ? 20000 + job % 10000 : 29500);
  if (place.port < 1 || place.port > 65535)
    throw Error("expected a port from 1 to 65535, found " + std::to_string(place.port),
                {.key = "MASTER_PORT"});
}

}  // namespace

std::string first_host(const std::string& nodes) {
  const std::size_t bracket = nodes.find('[');
  const std::size_t comma = nodes.find(',');
  if (bracket == std::string::npos || comma < bracket) return nodes.substr(0, comma);
  const std::size_t end = nodes.find_first_of("-,]", bracket);
  return nodes.substr(0, bracket) + nodes.substr(bracket + 1, end - bracket - 1);
}

RankPlace place_from(const Variables& variables) {
  RankPlace place;
  for (const Names& names : kNames) {
    if (variables(names.rank).empty() || variables(names.size).empty()) continue;
    place.rank = number_of(variables, names.rank, 0);
    place.size = number_of(variables, names.size, 1);
    if (place.size < 1 || place.rank >= place.size)
      throw Error(fmt::format("rank {} of {} ranks", place.rank, place.size), {.key = names.rank},
                  std::string("ranks count from 0 to ") + names.size + " - 1");
    if (place.size == 1) return {};
    place.local_rank = number_of(variables, names.local_rank, place.rank);
    place.local_size = first_count(variables(names.local_size), place.size);
    place.store_is_there = variables("TORCHELASTIC_USE_AGENT_STORE") == "True";
    place.interface = variables("GLOO_SOCKET_IFNAME");
    find_root(variables, place);
    return place;
  }
  return place;
}

std::optional<Difference> first_difference(const std::string& mine, const std::string& theirs) {
  std::istringstream a(mine), b(theirs);
  std::string section, other_section;
  while (true) {
    std::string one, other;
    const bool more = static_cast<bool>(std::getline(a, one));
    const bool others = static_cast<bool>(std::getline(b, other));
    if (!more && !others) return std::nullopt;
    if (one != other) return Difference{section + one, section + other};
    if (!one.empty() && one.front() != ' ') section = one + " ";
  }
}

Ranks::Ranks() : place_(place_from(from_environment)) {}

std::int64_t Ranks::share(std::int64_t of_machine) const {
  return std::max<std::int64_t>(1, of_machine / place_.local_size);
}

void Ranks::meet(const Config& config) {
  if (alone()) return;
  constexpr double kStart = 1.5;  // programs do not all start at once
  const auto milliseconds = [&](double times) {
    return std::chrono::milliseconds(
        static_cast<std::int64_t>(times * 1000 * config.train.rank_timeout));
  };
  ConnectOptions options;
  options.device = device_of(config);
  options.silence_timeout = milliseconds(1);
  options.meet_timeout = milliseconds(kStart);
  options.on_failure = [rank = place_.rank](const std::string& message) {
    std::fprintf(stderr,
                 "error: rank %d ends: %s\nhint: --resume goes on from the last checkpoint\n", rank,
                 message.c_str());
    std::fflush(stderr);
    _exit(2);  // this rank may be waiting for the other one, which nothing can interrupt
  };
  group_ = connect(place_, options);
  Config compared = config;
  compared.output = {};
  compare(fmt::format("brim: {}\n", BRIM_VERSION) + to_yaml(compared));
}

void Ranks::compare_data(std::uint64_t fingerprint) const {
  if (!alone()) compare(fmt::format("data: contents {:016x}\n", fingerprint));
}

/// Every rank throws when one of them has another text.
void Ranks::compare(const std::string& text) const {
  const auto all = gather_text(*group_, text);
  for (std::size_t r = 1; r < all.size(); ++r) {
    const auto difference = first_difference(all[0], all[r]);
    if (!difference) continue;
    group_->leave();
    throw Error(fmt::format("rank {} has other settings than rank 0: '{}' there, '{}' on rank 0", r,
                            difference->theirs, difference->mine),
                {}, "start every rank with the same command, program and data");
  }
}

}  // namespace brim::cli
