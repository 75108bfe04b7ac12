// A full training step of yolov5n against one convolution, timed alternately in one process.
//   train_step [--threads 2] [--pairs 12] [--batch 16] [--size 320] [--model yolov5n] [--system]
#include <ATen/Parallel.h>
#include "brim/dataloader/torch/libtorch.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "brim/cache/memory_budget.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"
#include "brim/train/ema.h"
#include "brim/train/network.h"
#include "brim/train/optimizer.h"
#include "brim/train/trainer.h"

namespace {
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Settings {
  int threads = 2, pairs = 12;
  std::int64_t batch = 16, size = 320, boxes = 8;
  std::string model = "yolov5n";
  bool pool = true;
};

Settings parse(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    const auto number = [&] { return i + 1 < argc ? std::atol(argv[++i]) : 0; };
    if (is("--threads"))
      s.threads = static_cast<int>(number());
    else if (is("--pairs"))
      s.pairs = static_cast<int>(number());
    else if (is("--batch"))
      s.batch = number();
    else if (is("--size"))
      s.size = number();
    else if (is("--model") && i + 1 < argc)
      s.model = argv[++i];
    else if (is("--system"))
      s.pool = false;
  }
  return s;
}

/// Forward and backward of one 3x3 convolution, 64 to 64 channels, on 8x64x80x80, NCHW.
class Reference {
 public:
  double run() {
    input_.mutable_grad() = torch::Tensor();
    weight_.mutable_grad() = torch::Tensor();
    const auto start = Clock::now();
    torch::conv2d(input_, weight_, {}, 1, 1).backward(gradient_);
    return ms_since(start);
  }

 private:
  torch::Tensor input_ = torch::randn({8, 64, 80, 80}).requires_grad_(true);
  torch::Tensor weight_ = torch::randn({64, 64, 3, 3}).requires_grad_(true);
  torch::Tensor gradient_ = torch::randn({8, 64, 80, 80});
};

brim::TensorBatch make_batch(const Settings& s) {
  brim::TensorBatch batch;
  batch.images = torch::randint(256, {s.batch, 3, s.size, s.size}, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor boxes = torch::rand({s.batch * s.boxes, 4});
  batch.targets =
      torch::cat({torch::arange(s.batch).repeat_interleave(s.boxes).view({-1, 1}).to(torch::kFloat),
                  torch::randint(80, {s.batch * s.boxes, 1}).to(torch::kFloat),
                  boxes.slice(1, 0, 2) * 0.8 + 0.1, boxes.slice(1, 2, 4) * 0.3 + 0.02},
                 1);
  return batch;
}

/// The parts of a step with a clock around each, to see where time goes.
class Parts {
 public:
  explicit Parts(const Settings& s)
      : batch_(make_batch(s)), network_(brim::make_network({.model = s.model, .classes = 80})) {
    for (torch::Tensor& p : network_->parameters())
      if (p.dim() == 4) p.set_data(p.detach().contiguous(torch::MemoryFormat::ChannelsLast));
    optimizer_ = std::make_unique<brim::Optimizer>(*network_, brim::OptimizerOptions{});
    optimizer_->set_learning_rates({1e-4, 1e-4, 1e-4});
    ema_ = std::make_unique<brim::ModelEma>(*network_);
    const auto& detector = dynamic_cast<brim::Detector&>(*network_);
    loss_ = std::make_unique<brim::DetectionLoss>(
        detector.anchors(), 80, brim::DetectionLossOptions{.image_size = static_cast<int>(s.size)});
    network_->train();
  }

  double run() {
    const auto start = Clock::now();
    lap_ = start;
    const torch::Tensor images = brim::normalize_images(batch_.images);
    lap("normalize");
    brim::NetworkOutput output = network_->forward(images);
    lap("forward");
    const brim::LossResult loss = loss_->loss(output, batch_);
    lap("loss");
    loss.total.backward();
    lap("backward");
    optimizer_->step({.max_norm = 10.0, .ema = ema_.get()});
    optimizer_->zero_grad();
    lap("optimizer+ema");
    return ms_since(start);
  }
  void forget() { parts_.clear(); }
  const std::map<std::string, std::vector<double>>& parts() const { return parts_; }

 private:
  void lap(const char* name) {
    parts_[name].push_back(ms_since(lap_));
    lap_ = Clock::now();
  }

  brim::TensorBatch batch_;
  std::shared_ptr<brim::Network> network_;
  std::unique_ptr<brim::Optimizer> optimizer_;
  std::unique_ptr<brim::ModelEma> ema_;
  std::unique_ptr<brim::DetectionLoss> loss_;
  Clock::time_point lap_;
  std::map<std::string, std::vector<double>> parts_;
};
/// What is measured: Trainer's own step, the optimiser included every time.
class TrainerStep {
 public:
  explicit TrainerStep(const Settings& s) : batch_(make_batch(s)) {
    auto network = brim::make_network({.model = s.model, .classes = 80});
    const auto& detector = dynamic_cast<brim::Detector&>(*network);
    auto loss = std::make_shared<brim::DetectionLoss>(
        detector.anchors(), 80, brim::DetectionLossOptions{.image_size = static_cast<int>(s.size)});
    brim::TrainOptions options;
    options.batch_size = options.nominal_batch = s.batch;
    options.precision = brim::Precision::Fp32;
    options.schedule = [](int, std::int64_t, std::int64_t) {
      return brim::StepPlan{{1e-4, 1e-4, 1e-4}, 0.937, 1};
    };
    trainer_ = std::make_unique<brim::Trainer>(network, loss, options);
  }
  double run() {
    const auto start = Clock::now();
    trainer_->step(batch_);
    return ms_since(start);
  }

 private:
  brim::TensorBatch batch_;
  std::unique_ptr<brim::Trainer> trainer_;
};
}  // namespace

int main(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  at::set_num_threads(s.threads);
  torch::manual_seed(0);
  if (s.pool) brim::install_cpu_allocator();
  Reference reference;
  TrainerStep step(s);
  for (int warm = 0; warm < 2; ++warm) {
    reference.run();
    step.run();
  }
  std::vector<double> ratios, steps, references;
  for (int pair = 0; pair < s.pairs; ++pair) {
    references.push_back(reference.run());
    steps.push_back(step.run());
    // The step against the mean of the convolutions around it: slow drifts cancel.
    references.back() = (references.back() + reference.run()) / 2;
    ratios.push_back(steps.back() / references.back());
  }
  std::printf("ratio %.2f   step %.1f ms   convolution %.1f ms   %.1f images/s   %d threads, %s\n",
              median(ratios), median(steps), median(references),
              1000.0 * static_cast<double>(s.batch) / median(steps), s.threads,
              s.pool ? "brim's allocator" : "system allocator");
  const brim::AllocatorStatistics memory = brim::allocator_statistics();
  Parts parts(s);
  for (int i = 0; i < 2 + s.pairs / 2; ++i) {
    if (i == 2) parts.forget();
    parts.run();
  }
  for (const auto& [name, times] : parts.parts())
    std::printf("  %-14s %8.1f ms  %5.1f%%\n", name.c_str(), median(times),
                100.0 * median(times) / median(steps));
  if (s.pool) {
    std::printf("  tensors: peak %s live, %s reserved\n",
                brim::format_bytes(memory.peak_live).c_str(),
                brim::format_bytes(memory.peak_reserved).c_str());
  }
  return 0;
}
