// The held-out campaign of the tuner: for every configuration two small probes make the memory
// model, larger batches are then predicted and measured. Every probe is a process of its own.
//   bench_autotune BRIM RESULTS.tsv [MOST_CASES]
// Resumable: cases that RESULTS.tsv holds are not measured again. Prints the table of
// docs/autotune.md.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "brim/autotune/measurement.h"
#include "brim/autotune/probe_process.h"

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

Measurement measure(const std::string& brim, const Configuration& c, std::int64_t batch) {
  const std::string file =
      (std::filesystem::temp_directory_path() / "brim-bench-autotune.yaml").string();
  std::ofstream(file) << "model:\n  name: " << c.model << "\ntrain:\n  img: " << c.image_size
                      << "\n  precision: " << c.precision << "\n  optimizer: " << c.optimizer
                      << "\n";
  return brim::autotune::run_probe_process({.executable = brim,
                                            .arguments = {"probe", "--config", file, "--classes",
                                                          "20", "--boxes", "32", "--probe-batch"},
                                            .timeout_seconds = 600},
                                           batch);
}

struct Case {
  double resident_error, tensor_error;  // (predicted - measured) / measured
  const Configuration* configuration;
};

double at_share(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(std::ceil(share * last))];
}

void print_row(const std::string& name, const std::vector<Case>& cases) {
  std::vector<double> resident, tensors;
  double lowest = 0;
  int under = 0;
  for (const Case& c : cases) {
    resident.push_back(100 * std::abs(c.resident_error));
    tensors.push_back(100 * std::abs(c.tensor_error));
    lowest = std::min(lowest, 100 * c.resident_error);
    under += c.resident_error < -0.01 ? 1 : 0;
  }
  std::printf("| %s | %zu | %.2f%% | %.2f%% | %.2f%% | %d | %.2f%% | %.2f%% |\n", name.c_str(),
              cases.size(), at_share(resident, 0.5), at_share(resident, 0.95), lowest, under,
              at_share(tensors, 0.5), at_share(tensors, 0.95));
}

void print_table(const std::vector<Case>& cases) {
  std::map<std::string, std::vector<Case>> groups;
  for (const Case& c : cases)
    groups[c.configuration->model + " " + c.configuration->precision].push_back(c);
  std::printf(
      "| cases | number | resident: median error | p95 | largest under-estimate | under-estimates "
      "above 1%% | tensors: median error | p95 |\n|---|---|---|---|---|---|---|---|\n");
  for (const auto& [name, group] : groups) print_row(name, group);
  print_row("all", cases);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::printf("bench_autotune BRIM RESULTS.tsv [MOST_CASES]: run by make bench-autotune\n");
    return 0;
  }
  Results results(argv[2]);
  const long most = argc > 3 ? std::atol(argv[3]) : 1'000'000;
  const std::vector<Configuration> all = configurations();
  std::vector<Case> cases;
  for (const Configuration& c : all) {
    std::map<std::int64_t, Measurement> found;
    std::vector<std::int64_t> batches(std::begin(kProbes), std::end(kProbes));
    batches.insert(batches.end(), std::begin(kHeldOut), std::end(kHeldOut));
    for (const std::int64_t batch : batches) {
      if (static_cast<long>(cases.size()) >= most) break;
      if (const Measurement* known = results.find(c, batch)) {
        found[batch] = *known;
        continue;
      }
      const Measurement m = measure(argv[1], c, batch);
      if (m.outcome != brim::autotune::Outcome::Fits) {
        std::fprintf(stderr, "%s %d batch %lld: %s\n", c.model.c_str(), c.image_size,
                     static_cast<long long>(batch), m.detail.c_str());
        continue;
      }
      results.add(c, m);
      found[batch] = m;
    }
    const auto fit_of = [&](auto field) {
      std::vector<double> x, y;
      for (const std::int64_t batch : kProbes) {
        x.push_back(static_cast<double>(batch));
        y.push_back(static_cast<double>(found[batch].*field));
      }
      return brim::autotune::fit_affine(x, y);
    };
    if (!found.contains(kProbes[0]) || !found.contains(kProbes[1])) continue;
    const auto resident = fit_of(&Measurement::resident_peak_bytes);
    const auto tensors = fit_of(&Measurement::tensor_peak_bytes);
    for (const std::int64_t batch : kHeldOut) {
      if (!found.contains(batch)) continue;
      const auto error = [&](const auto& fit, std::int64_t measured) {
        return fit.at(static_cast<double>(batch)) / static_cast<double>(measured) - 1;
      };
      cases.push_back({error(resident, found[batch].resident_peak_bytes),
                       error(tensors, found[batch].tensor_peak_bytes), &c});
    }
  }
  if (cases.empty()) return 1;
  print_table(cases);
  return 0;
}
