#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "brim/train/trainer.h"
#include "support/tiny_training.h"

// What tests of the Trainer share.
namespace brim::test {

struct Recorder : Observer {
  std::vector<StepEvent> steps;
  std::vector<EpochEvent> epochs;
  std::vector<Note> notes;
  std::vector<EndEvent> ends;
  std::atomic<bool>* stop = nullptr;
  std::int64_t stop_after = -1;
  void on_step(const StepEvent& event) override {
    steps.push_back(event);
    if (stop != nullptr && event.step == stop_after) *stop = true;
  }
  void on_epoch(const EpochEvent& event) override { epochs.push_back(event); }
  void on_note(const Note& note) override { notes.push_back(note); }
  void on_end(const EndEvent& event) override { ends.push_back(event); }
};

/// Fixed threads and seeds; options that fit the tiny batches.
inline TrainOptions options(int epochs, const std::string& folder = {}) {
  at::set_num_threads(1);
  TrainOptions o;
  o.epochs = epochs;
  o.batch_size = 8;
  o.nominal_batch = 16;
  o.precision = Precision::Fp32;
  o.folder = folder;
  return o;
}

inline std::shared_ptr<TinyNetwork> network(std::uint64_t seed = 1) {
  torch::manual_seed(seed);
  return std::make_shared<TinyNetwork>();
}

inline Evaluator loss_evaluator() {
  return [](Network& net) {
    const TensorBatch batch = tiny_batches(1, 16, 99)[0];
    const torch::Tensor logits = net.forward(normalize_images(batch.images)).predictions;
    const double loss =
        torch::nn::functional::cross_entropy(logits, batch.class_ids).item<double>();
    return EvaluationSummary{{{"loss", loss}}, -loss};
  };
}

inline bool equal(const TensorMap& a, const TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a)
    if (!tensor.equal(b.at(name))) return false;
  return true;
}

}  // namespace brim::test
