#include "ranks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <sstream>
#include <utility>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"
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

DataPart part_of(const std::vector<RankHost>& all, int rank) {
  // A machine is a host, and which of several on it: the how-many-th with that local rank.
  std::vector<std::pair<std::string, int>> machines;
  std::map<std::pair<std::string, int>, int> seen;
  std::vector<int> machine_of;
  for (const RankHost& one : all) {
    const auto machine = std::make_pair(one.host, seen[{one.host, one.local_rank}]++);
    const auto at = std::find(machines.begin(), machines.end(), machine);
    machine_of.push_back(static_cast<int>(at - machines.begin()));
    if (at == machines.end()) machines.push_back(machine);
  }
  const auto own = machine_of.begin() + rank;
  return {.part = *own,
          .parts = static_cast<int>(machines.size()),
          .rank = static_cast<int>(std::count(machine_of.begin(), own, *own)),
          .ranks = static_cast<int>(std::count(machine_of.begin(), machine_of.end(), *own))};
}

Ranks::Ranks()
    : place_(place_from(from_environment)), part_{.rank = place_.rank, .ranks = place_.size} {}

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
  if (config.data.sharding == "shard") divide_by_machine();
}

void Ranks::divide_by_machine() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  std::vector<RankHost> all;
  for (const std::string& text :
       gather_text(*group_, fmt::format("{} {}", place_.local_rank, host))) {
    const std::size_t space = text.find(' ');
    all.push_back({text.substr(space + 1), std::stoi(text.substr(0, space))});
  }
  part_ = part_of(all, place_.rank);
}

WholeData Ranks::compare_data(const Dataset& data) const {
  WholeData whole{data.fingerprint(), {data.size()}};
  if (part_.parts == 1) {
    if (!alone()) compare(fmt::format("data: contents {:016x}\n", whole.fingerprint));
    return whole;
  }
  compare(fmt::format("data: classes {}\n", fmt::join(data.class_names(), ", ")),
          "put the same classes.txt beside the shards of every machine");
  const torch::Tensor own = torch::tensor(
      {std::int64_t{part_.part}, data.size(), static_cast<std::int64_t>(data.fingerprint())},
      torch::kLong);
  struct Part {
    std::int64_t images, fingerprint;
    int ranks = 0;
  };
  std::map<std::int64_t, Part> parts;
  for (const torch::Tensor& rank : group_->gather(own)) {
    const auto* values = rank.data_ptr<std::int64_t>();
    Part& part = parts.try_emplace(values[0], Part{values[1], values[2]}).first->second;
    ++part.ranks;
    if (part.images == values[1] && part.fingerprint == values[2]) continue;
    group_->leave();
    throw Error(fmt::format("the ranks of machine {} have different shards", values[0]));
  }
  whole = {};
  for (const auto& [number, part] : parts) {
    whole.images.push_back(part.images);
    const int common = std::gcd(part.ranks, place_.size);
    for (const std::int64_t value :
         {part.fingerprint, std::int64_t{part.ranks / common}, std::int64_t{place_.size / common}})
      whole.fingerprint = mix64(whole.fingerprint, static_cast<std::uint64_t>(value));
  }
  return whole;
}

void Ranks::take_samples(LoaderOptions& options, const Dataset& data) const {
  options.rank = part_.rank;
  options.ranks = part_.ranks;
  if (part_.parts == 1) return;
  const std::int64_t samples = options.sampler ? options.sampler->epoch_size() : data.size();
  const std::int64_t together = options.batch_size * part_.ranks;
  options.epoch_batches = -smallest(*group_, -((samples + together - 1) / together));
  options.seed = mix64(options.seed, static_cast<std::uint64_t>(part_.part));
}

void Ranks::take_anchors(Network& network) const {
  auto* detector = dynamic_cast<Detector*>(&network);
  if (detector == nullptr || alone()) return;
  const torch::Tensor anchors = detector->anchors().clone(torch::MemoryFormat::Contiguous);
  group_->broadcast(anchors, 0);
  detector->set_anchors(anchors);
}

/// Every rank throws when one of them has another text.
void Ranks::compare(const std::string& text, const char* hint) const {
  const auto all = gather_text(*group_, text);
  for (std::size_t r = 1; r < all.size(); ++r) {
    const auto difference = first_difference(all[0], all[r]);
    if (!difference) continue;
    group_->leave();
    throw Error(fmt::format("rank {} has other settings than rank 0: '{}' there, '{}' on rank 0", r,
                            difference->theirs, difference->mine),
                {}, hint);
  }
}

}  // namespace brim::cli
