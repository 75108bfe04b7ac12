// A full training step on a GPU: bytes to half or float, forward, loss, backward, clipping, SGD,
// EMA.
//   bench_gpu_step [--model yolov5s] [--size 640] [--batch 64] [--precision fp16] [--steps 30]
//                  [--no-search]   (convolution algorithms by heuristic instead of by measurement)
// benchmarks/original_step.py times the original program's step on the same kind of batch.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/torch/device.h"
#include "brim/dataloader/torch/tensor_batch.h"
#include "brim/train/detection_loss.h"
#include "brim/train/network.h"
#include "brim/train/trainer.h"

namespace {
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Settings {
  std::string model = "yolov5s", precision = "fp16";
  std::int64_t size = 640, batch = 64, boxes = 8, steps = 30;
  bool search = true;
};

Settings parse(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    const auto next = [&] { return i + 1 < argc ? argv[++i] : argv[i]; };
    if (is("--model")) s.model = next();
    if (is("--precision")) s.precision = next();
    if (is("--size")) s.size = std::atol(next());
    if (is("--batch")) s.batch = std::atol(next());
    if (is("--steps")) s.steps = std::atol(next());
    if (is("--no-search")) s.search = false;
  }
  return s;
}

brim::TensorBatch make_batch(const Settings& s, torch::Device device) {
  brim::TensorBatch batch;
  batch.images = torch::randint(256, {s.batch, 3, s.size, s.size}, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor boxes = torch::rand({s.batch * s.boxes, 4});
  batch.targets =
      torch::cat({torch::arange(s.batch).repeat_interleave(s.boxes).view({-1, 1}).to(torch::kFloat),
                  torch::randint(80, {s.batch * s.boxes, 1}).to(torch::kFloat),
                  boxes.slice(1, 0, 2) * 0.8 + 0.1, boxes.slice(1, 2, 4) * 0.3 + 0.02},
                 1);
  return brim::to_device(batch, device);
}

void run(const Settings& s) {
  const torch::Device device = brim::with_index(torch::kCUDA);
  at::globalContext().setBenchmarkCuDNN(s.search);
  torch::manual_seed(0);
  auto network = brim::make_network({.model = s.model, .classes = 80});
  const auto& detector = dynamic_cast<brim::Detector&>(*network);
  auto loss = std::make_shared<brim::DetectionLoss>(
      detector.anchors(), 80, brim::DetectionLossOptions{.image_size = static_cast<int>(s.size)});
  const brim::TensorBatch batch = make_batch(s, device);
  brim::TrainOptions options;
  options.device = device;
  options.batch_size = options.nominal_batch = s.batch;
  options.precision = brim::parse_precision(s.precision);
  Clock::time_point gradients{};
  bool apart = false;  // whether the device is waited for between the parts
  options.schedule = [&](int, std::int64_t, std::int64_t) {
    if (apart) brim::synchronize(device);
    gradients = Clock::now();
    return brim::StepPlan{{1e-4, 1e-4, 1e-4}, 0.937, 1};
  };
  brim::Trainer trainer(network, loss, options);
  for (int i = 0; i < 10; ++i) trainer.step(batch);
  brim::synchronize(device);
  std::vector<double> steps, launched;
  for (std::int64_t i = 0; i < s.steps; ++i) {
    const auto start = Clock::now();
    trainer.step(batch);
    launched.push_back(std::chrono::duration<double, std::milli>(gradients - start).count());
    brim::synchronize(device);
    steps.push_back(ms_since(start));
  }
  apart = true;
  std::vector<double> optimizer;
  for (int i = 0; i < 5; ++i) {
    trainer.step(batch);
    brim::synchronize(device);
    optimizer.push_back(ms_since(gradients));
  }
  const brim::DeviceUse use = brim::device_use(device);
  std::printf(
      "brim %s %lld batch %lld %s%s: step %.1f ms (best %.1f), %.0f images/s; the CPU is done "
      "with forward and backward after %.1f ms; clipping, optimiser and EMA %.1f ms; peak %s "
      "in tensors, %s reserved\n",
      s.model.c_str(), static_cast<long long>(s.size), static_cast<long long>(s.batch),
      s.precision.c_str(), s.search ? "" : " (no search)", median(steps),
      *std::min_element(steps.begin(), steps.end()),
      1000.0 * static_cast<double>(s.batch) / median(steps), median(launched), median(optimizer),
      brim::format_bytes(use.peak_live).c_str(), brim::format_bytes(use.peak_reserved).c_str());
}
}  // namespace

int main(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  try {
    brim::require_device(torch::kCUDA);
  } catch (const brim::Error& error) {
    std::printf("skipped: %s\n", error.message().c_str());
    return 0;
  }
  run(s);
  return 0;
}
