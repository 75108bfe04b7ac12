#include "brim/train/observer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "brim/cache/error.h"
#include "brim/train/checkpoint.h"

namespace brim {
namespace {
using nlohmann::json;

std::ofstream open_for_append(const std::string& path) {
  std::ofstream out(path, std::ios::app);
  if (!out) throw Error("cannot write", {.file = path}, "is the folder writable?");
  return out;
}

/// How summarize() names losses on the validation set.
constexpr std::string_view kLossOfValidation = "val_";

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

/// Columns are those of the file's header: a run that goes on may have others.
class CsvWriter final : public Observer {
 public:
  explicit CsvWriter(std::string path) : path_(std::move(path)) {
    open_for_append(path_);  // a folder that cannot be written to is told of before the training
  }

  void on_start(const RunInfo& info) override {
    components_ = info.component_names;
    const std::string kept = rows_before(info.first_epoch);
    std::istringstream names(kept.substr(0, kept.find('\n')));
    columns_.clear();
    for (std::string column; std::getline(names, column, ',');) columns_.push_back(column);
    write_file_atomically(path_, kept.data(), kept.size());
    out_ = open_for_append(path_);
  }

  void on_epoch(const EpochEvent& event) override {
    const std::vector<Cell> cells = cells_of(event);
    if (columns_.empty()) {
      for (const auto& [name, text] : cells) columns_.push_back(name);
      write(columns_);
    }
    std::vector<std::string> row;
    for (const std::string& column : columns_) {
      const auto cell = std::find_if(cells.begin(), cells.end(),
                                     [&](const Cell& c) { return c.first == column; });
      row.push_back(cell == cells.end() ? "" : cell->second);
    }
    write(row);
    out_.flush();
    if (!out_) throw Error("cannot write", {.file = path_}, "is the disk full?");
  }

 private:
  using Cell = std::pair<std::string, std::string>;  // column, text

  /// What the file keeps in a run that begins with `epoch`: header and rows of the epochs before.
  std::string rows_before(int epoch) const {
    if (epoch == 0) return "";
    std::ifstream in(path_);
    std::string kept, line;
    for (bool header = true; std::getline(in, line); header = false)
      if (header || std::atoi(line.c_str()) < epoch) kept += line + "\n";
    return kept;
  }

  std::vector<Cell> cells_of(const EpochEvent& event) const {
    std::vector<Cell> cells{{"epoch", std::to_string(event.epoch)}};
    for (std::size_t i = 0; i < components_.size() && i < event.mean_components.size(); ++i)
      cells.emplace_back("train/" + components_[i], number(event.mean_components[i]));
    for (const auto& [name, value] : event.evaluation.metrics)
      cells.emplace_back(name.starts_with(kLossOfValidation)
                             ? "val/" + name.substr(kLossOfValidation.size())
                             : "metrics/" + name,
                         number(value));
    for (std::size_t i = 0; i < event.rates.size(); ++i)
      cells.emplace_back("x/lr" + std::to_string(i), number(event.rates[i]));
    return cells;
  }

  void write(const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) out_ << (i == 0 ? "" : ",") << cells[i];
    out_ << '\n';
  }

  std::string path_;
  std::vector<std::string> columns_;
  std::ofstream out_;
  std::vector<std::string> components_;
};

/// JSON knows no infinities.
json finite(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

json finite(const std::vector<double>& values) {
  json list = json::array();
  for (const double value : values) list.push_back(finite(value));
  return list;
}

class JsonlWriter final : public Observer {
 public:
  JsonlWriter(const std::string& path, std::int64_t every)
      : path_(path), every_(std::max<std::int64_t>(every, 1)), out_(open_for_append(path)) {}

  void on_start(const RunInfo& info) override {
    if (info.first_epoch == 0 && info.first_batch == 0) out_ = std::ofstream(path_);
    write({{"event", "start"},
           {"network", info.network},
           {"device", info.device},
           {"precision", info.precision},
           {"epochs", info.epochs},
           {"batches_per_epoch", info.batches_per_epoch},
           {"first_epoch", info.first_epoch},
           {"first_batch", info.first_batch},
           {"components", info.component_names}});
  }

  void on_step(const StepEvent& event) override {
    if (event.step % every_ != 0) return;
    write({{"event", "step"},
           {"epoch", event.epoch},
           {"batch", event.batch},
           {"step", event.step},
           {"images", event.images},
           {"width", event.width},
           {"height", event.height},
           {"micro_batches", event.micro_batches},
           {"losses", finite(event.mean_components)},
           {"rates", event.rates},
           {"momentum", event.momentum},
           {"stepped", event.stepped},
           {"gradient_norm", finite(event.gradient_norm)},
           {"loss_scale", event.loss_scale},
           {"step_seconds", event.step_seconds},
           {"wait_seconds", event.wait_seconds}});
  }

  void on_epoch(const EpochEvent& event) override {
    json metrics = json::object();
    for (const auto& [name, value] : event.evaluation.metrics) metrics[name] = finite(value);
    write({{"event", "epoch"},
           {"epoch", event.epoch},
           {"step", event.step},
           {"losses", finite(event.mean_components)},
           {"rates", event.rates},
           {"evaluated", event.evaluated},
           {"metrics", metrics},
           {"fitness", finite(event.evaluation.fitness)},
           {"best", event.best},
           {"images", event.images},
           {"train_seconds", event.train_seconds},
           {"wait_seconds", event.wait_seconds},
           {"evaluation_seconds", event.evaluation_seconds},
           {"cache_hit_rate", event.cache_hit_rate < 0 ? json() : json(event.cache_hit_rate)}});
  }

  void on_note(const Note& note) override {
    static constexpr const char* kKinds[] = {"out_of_memory", "not_finite", "small_micro_batch",
                                             "early_stop", "memory"};
    write({{"event", "note"},
           {"kind", kKinds[static_cast<int>(note.kind)]},
           {"epoch", note.epoch},
           {"batch", note.batch},
           {"message", note.message}});
  }

  void on_end(const EndEvent& event) override {
    write({{"event", "end"},
           {"reason", to_string(event.reason)},
           {"epoch", event.epoch},
           {"step", event.step},
           {"best_fitness", finite(event.best_fitness)},
           {"best_epoch", event.best_epoch},
           {"seconds", event.seconds}});
  }

 private:
  void write(const json& line) {
    out_ << line.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
    out_.flush();
    if (!out_) throw Error("cannot write", {.file = path_}, "is the disk full?");
  }

  std::string path_;
  std::int64_t every_;
  std::ofstream out_;
};
}  // namespace

void Observer::on_start(const RunInfo& /*info*/) {}
void Observer::on_step(const StepEvent& /*event*/) {}
void Observer::on_trained() {}
void Observer::on_epoch(const EpochEvent& /*event*/) {}
void Observer::on_note(const Note& /*note*/) {}
void Observer::on_end(const EndEvent& /*event*/) {}

std::string to_string(EndReason reason) {
  switch (reason) {
    case EndReason::Finished:
      return "finished";
    case EndReason::MaxSteps:
      return "max steps";
    case EndReason::Stopped:
      return "stopped";
    case EndReason::EarlyStop:
      return "early stop";
  }
  return "finished";
}

std::unique_ptr<Observer> make_csv_writer(const std::string& path) {
  return std::make_unique<CsvWriter>(path);
}

std::unique_ptr<Observer> make_jsonl_writer(const std::string& path, std::int64_t every) {
  return std::make_unique<JsonlWriter>(path, every);
}

}  // namespace brim
