#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace brim {

using TensorMap = std::map<std::string, torch::Tensor>;

struct EmaOptions {
  double decay = 0.9999;  ///< what the decay grows towards; 0: a Trainer keeps no averages
  double tau = 2000.0;    ///< decay(t) = decay * (1 - exp(-t / tau))
};

/// Exponential moving average of a network's parameters and floating-point buffers. Keeps a second
/// set of tensors beside the network's; other buffers are copied. One thread.
///
///   ModelEma ema(*network);
///   optimizer.step({.ema = &ema});            // updates weights and averages in one sweep
///   { ModelEma::Scope scope(ema); evaluate(*network); }   // the network holds the averages here
class ModelEma {
 public:
  explicit ModelEma(torch::nn::Module& network, const EmaOptions& options = {});

  double decay_at(std::int64_t update) const;
  std::int64_t updates() const { return updates_; }
  /// One update of everything. Optimizer::step does this itself where it is given the ema.
  void update();

  /// By state_dict name; the tensors are the averages themselves.
  TensorMap state() const;
  /// Throws Error naming the first missing entry or wrong shape.
  void load(const TensorMap& state, std::int64_t updates);

  /// Exchanges network and averages while it lives; no copy is made.
  class Scope {
   public:
    explicit Scope(ModelEma& ema) : ema_(ema) { ema_.exchange(); }
    ~Scope() { ema_.exchange(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ModelEma& ema_;
  };

 private:
  friend class Optimizer;
  struct Entry {
    std::string name;
    torch::Tensor live;
    torch::Tensor average;
  };
  void exchange();
  /// Of the entries that `done` does not mark.
  void update_others(const std::vector<char>& done, double decay);
  Entry* find(const torch::Tensor& live);

  EmaOptions options_;
  std::int64_t updates_ = 0;
  std::vector<Entry> entries_;
  std::unordered_map<const void*, std::size_t> by_tensor_;
};

}  // namespace brim
