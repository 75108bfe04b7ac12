// The held-out campaign of the tuner: for every configuration two small probes make the memory
// model, larger batches are then predicted and measured, each in a process of its own.
//   bench_autotune RESULTS.tsv [MOST_CASES]
// Resumable: cases that RESULTS.tsv holds are not measured again. Prints the table of
// docs/autotune_campaign.md.
#include <ATen/Parallel.h>
#include "brim/dataloader/torch/libtorch.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brim/autotune/measurement.h"
#include "brim/autotune/memory_model.h"
#include "brim/autotune/probe_process.h"
#include "brim/autotune/training_probe.h"
#include "brim/cache/memory_budget.h"
#include "brim/train/classification_loss.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"

namespace {

using brim::autotune::Measurement;

struct Configuration {
  std::string model;
  int image_size;
  std::string precision, optimizer;
  std::string key() const {
    return model + "\t" + std::to_string(image_size) + "\t" + precision + "\t" + optimizer;
  }
};

/// The two probes of the model and what is held out: up to four times the larger probe.
constexpr std::int64_t kProbes[] = {2, 4};
constexpr std::int64_t kHeldOut[] = {6, 8, 12, 16};

std::vector<Configuration> configurations() {
  std::vector<Configuration> all;
  const auto add = [&](const std::string& model, const std::vector<int>& sizes,
                       const std::string& precision, const std::string& optimizer) {
    for (const int size : sizes) all.push_back({model, size, precision, optimizer});
  };
  add("yolov5n", {160, 192, 224, 256, 320, 416, 512, 640}, "fp32", "sgd");
  add("yolov5s", {160, 192, 224, 256, 320, 416, 640}, "fp32", "sgd");
  add("resnet18", {160, 192, 224, 256, 320}, "fp32", "sgd");
  add("yolov5m", {160, 192, 224, 256, 320}, "fp32", "sgd");
  add("resnet34", {160, 192, 224, 256}, "fp32", "sgd");
  add("resnet50", {160, 192, 224}, "fp32", "sgd");
  add("yolov5n", {160, 224, 320}, "fp32", "adamw");
  add("yolov5s", {160, 224, 320}, "fp32", "adamw");
  add("resnet18", {160, 224}, "fp32", "adamw");
  add("resnet50", {160, 224}, "fp32", "adam");
  add("yolov5m", {160, 224}, "fp32", "adamw");
  add("yolov5n", {160, 224, 320}, "bf16", "sgd");
  add("yolov5s", {160, 224}, "bf16", "sgd");
  add("resnet18", {160, 224}, "bf16", "adamw");
  // Cheap ones first: a campaign that is cut short has then seen every model.
  const auto cost = [](const Configuration& c) {
    static const std::map<std::string, double> kGigaflops{{"yolov5n", 4.5}, {"yolov5s", 16},
                                                          {"yolov5m", 49},  {"resnet18", 30},
                                                          {"resnet34", 60}, {"resnet50", 68}};
    return kGigaflops.at(c.model) * c.image_size * c.image_size;
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const auto& a, const auto& b) { return cost(a) < cost(b); });
  return all;
}

/// RESULTS.tsv: key columns, batch, then the measurement.
class Results {
 public:
  explicit Results(std::string path) : path_(std::move(path)) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      const std::size_t cut = line.rfind('\t');
      if (cut == std::string::npos) continue;
      known_[line.substr(0, cut)] = brim::autotune::measurement_from_json(line.substr(cut + 1));
    }
  }
  const Measurement* find(const Configuration& c, std::int64_t batch) const {
    const auto found = known_.find(key(c, batch));
    return found == known_.end() ? nullptr : &found->second;
  }
  void add(const Configuration& c, const Measurement& m) {
    known_[key(c, m.batch)] = m;
    std::ofstream(path_, std::ios::app) << key(c, m.batch) << '\t' << to_json(m) << '\n';
  }

 private:
  static std::string key(const Configuration& c, std::int64_t batch) {
    return c.key() + "\t" + std::to_string(batch);
  }
  std::string path_;
  std::map<std::string, Measurement> known_;
};

/// A probe of `c` in a process of its own: this program again.
brim::autotune::ProbeProcessOptions probe_of(const Configuration& c) {
  return {.executable = std::filesystem::read_symlink("/proc/self/exe").string(),
          .arguments = {"--probe", c.model, std::to_string(c.image_size), c.precision, c.optimizer},
          .timeout_seconds = 900};
}

/// The child's side: as `brim probe`, with 20 classes and 32 boxes per image.
int serve(const Configuration& c) {
  constexpr int kClasses = 20;
  setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "16", 0);
  setenv("LRU_CACHE_CAPACITY", "16", 0);
  brim::autotune::enter_probe_process(0);
  brim::install_cpu_allocator();
  at::set_num_threads(brim::available_cpus());
  const auto subject = [&] {
    brim::autotune::ProbeSubject made;
    made.network = brim::make_network({.model = c.model, .classes = kClasses});
    if (const auto* detector = dynamic_cast<const brim::Detector*>(made.network.get()))
      made.objective = std::make_shared<brim::DetectionLoss>(
          detector->anchors(), kClasses, brim::DetectionLossOptions{.image_size = c.image_size});
    else
      made.objective =
          std::make_shared<brim::ClassificationLoss>(brim::ClassificationLossOptions{});
    made.options = {.image_size = c.image_size, .boxes_per_image = 32};
    made.options.train.optimizer.kind = brim::parse_optimizer(c.optimizer);
    made.options.train.precision = brim::parse_precision(c.precision);
    made.options.train.activation_checkpointing = brim::ActivationCheckpointing::Off;
    return made;
  };
  return brim::autotune::serve_probes(
      [&](std::int64_t batch) { return brim::autotune::measure_training(subject, batch); });
}

/// Those of `batches` that fit, from `results` where they are known.
std::map<std::int64_t, Measurement> measure_all(const Configuration& c,
                                                std::span<const std::int64_t> batches,
                                                Results& results, bool one_process) {
  std::map<std::int64_t, Measurement> found;
  std::unique_ptr<brim::autotune::ProbeProcess> probe;
  for (const std::int64_t batch : batches) {
    if (const Measurement* known = results.find(c, batch)) {
      found[batch] = *known;
      continue;
    }
    if (!probe || !one_process) probe = std::make_unique<brim::autotune::ProbeProcess>(probe_of(c));
    Measurement m = probe->measure(batch);
    if (m.outcome != brim::autotune::Outcome::Fits) {
      std::fprintf(stderr, "%s %d batch %lld: %s\n", c.model.c_str(), c.image_size,
                   static_cast<long long>(batch), m.detail.c_str());
      continue;
    }
    if (!one_process) m.trace.clear();  // the model sees the two probes alone
    results.add(c, m);
    found[batch] = m;
  }
  return found;
}

struct Case {
  double error, line_error;  // (predicted - measured) / measured
  const Configuration* configuration;
};

double at_share(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(std::ceil(share * last))];
}

void print_row(const std::string& name, const std::vector<Case>& cases) {
  std::vector<double> errors, lines;
  double lowest = 0, highest = 0;
  int under = 0;
  for (const Case& c : cases) {
    errors.push_back(100 * std::abs(c.error));
    lines.push_back(100 * std::abs(c.line_error));
    lowest = std::min(lowest, 100 * c.error);
    highest = std::max(highest, 100 * c.error);
    under += c.error < -0.01 ? 1 : 0;
  }
  std::printf("| %s | %zu | %.2f%% | %.2f%% | %.2f%% | %.2f%% | %d | %.2f%% | %.2f%% |\n",
              name.c_str(), cases.size(), at_share(errors, 0.5), at_share(errors, 0.95), lowest,
              highest, under, at_share(lines, 0.5), at_share(lines, 0.95));
}

void print_table(const std::vector<Case>& cases) {
  std::map<std::string, std::vector<Case>> groups;
  for (const Case& c : cases)
    groups[c.configuration->model + " " + c.configuration->precision + " " +
           c.configuration->optimizer]
        .push_back(c);
  std::printf(
      "| cases | number | median error | p95 | lowest | highest | under-estimates above 1%% | a "
      "straight line: median | p95 |\n|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [name, group] : groups) print_row(name, group);
  print_row("all", cases);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 6 && std::string(argv[1]) == "--probe")
    return serve({argv[2], std::atoi(argv[3]), argv[4], argv[5]});
  if (argc < 2) {
    std::printf("bench_autotune RESULTS.tsv [MOST_CASES]: run by make bench-autotune\n");
    return 0;
  }
  Results results(argv[1]);
  const long most = argc > 2 ? std::atol(argv[2]) : 1'000'000;
  const std::vector<Configuration> all = configurations();
  std::vector<Case> cases;
  for (const Configuration& c : all) {
    if (static_cast<long>(cases.size()) >= most) break;
    const auto probes = measure_all(c, kProbes, results, true);
    if (probes.size() < std::size(kProbes)) continue;
    std::vector<Measurement> measured;
    for (const auto& [batch, m] : probes) measured.push_back(m);
    const brim::autotune::MemoryModel model(measured);
    if (!model.replays()) std::fprintf(stderr, "%s: the probes' traces differ\n", c.key().c_str());
    for (const auto& [batch, m] : measure_all(c, kHeldOut, results, false)) {
      const auto actual = static_cast<double>(m.resident_peak_bytes);
      cases.push_back({model.at(batch) / actual - 1,
                       model.line().at(static_cast<double>(batch)) / actual - 1, &c});
    }
  }
  if (cases.empty()) return 1;
  print_table(cases);
  return 0;
}
