#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace brim {

/// What the evaluation of a network found: numbers by name, in the order they are shown in.
struct EvaluationSummary {
  std::vector<std::pair<std::string, double>> metrics{};
  double fitness = 0;  ///< what "best" is decided by; larger is better
};

struct RunInfo {
  std::string network;
  std::string device;
  std::string precision;
  int epochs = 0;
  std::int64_t batches_per_epoch = 0;
  int first_epoch = 0;           ///< of this run (later than 0 when resumed)
  std::int64_t first_batch = 0;  ///< within it
  std::vector<std::string> component_names{};
};

/// One batch was trained on.
struct StepEvent {
  int epoch = 0;
  std::int64_t batch = 0, batches = 0;  ///< within the epoch
  std::int64_t step = 0;                ///< batches since training began
  std::int64_t images = 0;              ///< in this batch
  std::int64_t width = 0, height = 0;
  int micro_batches = 1;
  std::vector<double> mean_components{};  ///< of the epoch so far
  std::array<double, 3> rates{};          ///< bias, weight, norm
  double momentum = 0;
  bool stepped = false;      ///< the optimiser moved (accumulation otherwise)
  double gradient_norm = 0;  ///< before clipping, where stepped
  double loss_scale = 1;
  double step_seconds = 0;  ///< without the wait for data
  double wait_seconds = 0;  ///< for data
};

/// An epoch ended.
struct EpochEvent {
  int epoch = 0;
  std::int64_t step = 0;
  std::vector<double> mean_components{};
  std::array<double, 3> rates{};
  bool evaluated = false;
  EvaluationSummary evaluation{};
  bool best = false;
  std::int64_t images = 0;
  double train_seconds = 0, wait_seconds = 0, evaluation_seconds = 0;
  double cache_hit_rate = -1;  ///< of the images; negative: no cache
};

/// Something the user should know while the run goes on.
struct Note {
  enum class Kind : std::uint8_t { OutOfMemory, NotFinite, SmallMicroBatch, EarlyStop, Memory };
  Kind kind;
  int epoch = 0;
  std::int64_t batch = 0;
  std::string message;
};

enum class EndReason : std::uint8_t { Finished, MaxSteps, Stopped, EarlyStop };
std::string to_string(EndReason reason);

struct EndEvent {
  EndReason reason = EndReason::Finished;
  int epoch = 0;
  std::int64_t step = 0;
  double best_fitness = 0;
  int best_epoch = -1;
  double seconds = 0;
};

/// Follows a training. Called on the training thread; slow work here slows the training.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunInfo& info);
  virtual void on_step(const StepEvent& event);
  /// The steps of an epoch are done; evaluation follows, then on_epoch(). What a loader counted of
  /// the epoch is to be read here.
  virtual void on_trained();
  virtual void on_epoch(const EpochEvent& event);
  virtual void on_note(const Note& note);
  virtual void on_end(const EndEvent& event);
};

/// results.csv: one row per epoch (epoch, train/<component>..., metrics/<name>..., x/lr0..2;
/// metrics called val_<component> are columns val/<component>). A run that goes on keeps the rows
/// of the epochs before it; others begin the file anew. Throws Error where it cannot be written.
std::unique_ptr<Observer> make_csv_writer(const std::string& path);
/// metrics.jsonl: one JSON object per epoch, note and end, and per `every`-th step.
std::unique_ptr<Observer> make_jsonl_writer(const std::string& path, std::int64_t every = 10);

}  // namespace brim
