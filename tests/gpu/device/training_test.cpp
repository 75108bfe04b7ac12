#include <filesystem>

#include "brim/train/checkpoint.h"
#include "brim/train/detection_loss.h"
#include "brim/train/memory_scope.h"
#include "brim/train/nms.h"
#include "brim/train/trainer.h"
#include "gpu/device/gpu_test.h"
#include "support/tiny_training.h"

namespace brim::test {
namespace {

TensorBatch detection_batch(std::int64_t images, std::int64_t side, std::uint64_t seed = 3) {
  torch::manual_seed(seed);
  TensorBatch batch;
  batch.images = torch::randint(256, {images, 3, side, side}, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  constexpr std::int64_t kBoxes = 6;
  const torch::Tensor boxes = torch::rand({images * kBoxes, 4});
  batch.targets =
      torch::cat({torch::arange(images).repeat_interleave(kBoxes).view({-1, 1}).to(torch::kFloat),
                  torch::randint(4, {images * kBoxes, 1}).to(torch::kFloat),
                  boxes.slice(1, 0, 2) * 0.8 + 0.1, boxes.slice(1, 2, 4) * 0.4 + 0.05},
                 1);
  return batch;
}

struct Training {
  std::shared_ptr<Network> network;
  std::shared_ptr<Objective> objective;
  std::unique_ptr<Trainer> trainer;
};

Training make_training(torch::Device device, Precision precision, std::int64_t batch,
                       const std::string& model = "yolov5n", std::int64_t micro_batch = 0,
                       ActivationCheckpointing checkpointing = ActivationCheckpointing::Off,
                       OptimizerKind kind = OptimizerKind::Sgd) {
  Training t;
  torch::manual_seed(1);
  t.network = make_network({.model = model, .classes = 4});
  t.objective = std::make_shared<DetectionLoss>(dynamic_cast<Detector&>(*t.network).anchors(), 4,
                                                DetectionLossOptions{.image_size = 160});
  TrainOptions options;
  options.device = device;
  options.precision = precision;
  options.batch_size = options.nominal_batch = batch;
  options.micro_batch = micro_batch;
  options.activation_checkpointing = checkpointing;
  options.optimizer.kind = kind;
  options.schedule = [](int, std::int64_t, std::int64_t) {
    return StepPlan{{1e-3, 1e-3, 1e-3}, 0.9, 1};
  };
  t.trainer = std::make_unique<Trainer>(t.network, t.objective, options);
  return t;
}

/// Largest relative difference of two networks' tensors, tensor by tensor, against their size.
double difference(Network& a, Network& b) {
  double worst = 0;
  const auto of_b = b.named_parameters();
  for (const auto& item : a.named_parameters()) {
    const torch::Tensor x = item.value().detach().cpu().to(torch::kDouble);
    const torch::Tensor y = of_b[item.key()].detach().cpu().to(torch::kDouble);
    worst = std::max(worst, ((x - y).norm() / (y.norm() + 1e-6)).item<double>());
  }
  return worst;
}

/// In exact float32: TF32 rounds convolutions to ten bits.
class TrainingGpu : public Gpu {
 protected:
  void SetUp() override {
    Gpu::SetUp();
    at::globalContext().setAllowTF32CuDNN(false);
  }
  void TearDown() override {
    at::globalContext().setAllowTF32CuDNN(true);
    Gpu::TearDown();
  }
};

TEST_F(TrainingGpu, TrainsInFloat32AsTheCpuDoes) {
  Training here = make_training(torch::kCPU, Precision::Fp32, 4);
  Training there = make_training(device, Precision::Fp32, 4);
  for (int i = 0; i < 5; ++i) {
    const TensorBatch batch = detection_batch(4, 160, static_cast<std::uint64_t>(i));
    const StepEvent a = here.trainer->step(batch);
    const StepEvent b = there.trainer->step(to_device(batch, device));
    ASSERT_TRUE(b.stepped);
    for (std::size_t k = 0; k < a.mean_components.size(); ++k)
      EXPECT_NEAR(a.mean_components[k], b.mean_components[k], 2e-3 * a.mean_components[k]);
    EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 2e-2 * a.gradient_norm);
  }
  EXPECT_LT(difference(*there.network, *here.network), 2e-3);
}

TEST_F(TrainingGpu, UpdatesWeightsAndAveragesAsTheCpuDoes) {
  for (const auto kind : {OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::AdamW}) {
    TinyNetwork here, there;
    there.to(device);
    {
      const torch::NoGradGuard no_grad;
      auto of_there = there.named_parameters();
      for (auto& item : here.named_parameters()) of_there[item.key()].copy_(item.value());
    }
    Optimizer first(here, {.kind = kind}), second(there, {.kind = kind});
    ModelEma first_ema(here), second_ema(there);
    for (Optimizer* optimizer : {&first, &second}) optimizer->set_learning_rates({0.1, 0.01, 0.02});
    for (int i = 0; i < 5; ++i) {
      auto of_there = there.named_parameters();
      for (auto& item : here.named_parameters()) {
        item.value().mutable_grad() = torch::randn_like(item.value()) * 3;
        of_there[item.key()].mutable_grad() = item.value().grad().to(device);
      }
      const StepResult a = first.step({.max_norm = 10, .gradient_factor = 0.5, .ema = &first_ema});
      const StepResult b =
          second.step({.max_norm = 10, .gradient_factor = 0.5, .ema = &second_ema});
      EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-5 * a.gradient_norm);
    }
    EXPECT_LT(difference(there, here), 1e-5) << to_string(kind);
    const TensorMap averages = second_ema.state();
    for (const auto& [name, tensor] : first_ema.state())
      EXPECT_TRUE(torch::allclose(averages.at(name).cpu(), tensor, 1e-5, 1e-7)) << name;
  }
}

TEST_F(TrainingGpu, LearnsInHalfPrecision) {
  for (const Precision precision : {Precision::Fp16, Precision::Bf16}) {
    Training t = make_training(device, precision, 8, "yolov5n", 0, ActivationCheckpointing::Off,
                               OptimizerKind::AdamW);
    const TensorBatch batch = to_device(detection_batch(8, 160), device);
    double first = 0, last = 0;
    for (int i = 0; i < 120; ++i) {
      double sum = 0;  // components are means of all steps so far
      for (const double component : t.trainer->step(batch).mean_components) sum += component;
      (i == 0 ? first : last) = sum;
    }
    EXPECT_LT(last, 0.9 * first) << to_string(precision);
    if (precision == Precision::Fp16) {
      EXPECT_GT(t.trainer->checkpoint().info.loss_scale, 1);
    }
  }
}

TEST_F(TrainingGpu, SurvivesRunningOutOfMemoryWithTheResultOfSmallerParts) {
  constexpr std::int64_t kImages = 32;
  const auto batch = to_device(detection_batch(kImages, 320), device);
  std::int64_t halves = 0;
  {
    Training half = make_training(device, Precision::Fp32, kImages, "yolov5n", kImages / 2);
    empty_device_cache(device);
    reset_device_peaks(device);
    half.trainer->step(batch);
    halves = device_use(device).peak_reserved;
  }
  empty_device_cache(device);
  Training tight = make_training(device, Precision::Fp32, kImages);
  set_device_limit(device, halves + halves / 8);  // 16 at once fit, 32 do not
  std::int64_t parts = 0;
  for (int i = 0; i < 4; ++i) {
    const StepEvent event = tight.trainer->step(batch);
    EXPECT_TRUE(event.stepped);
    EXPECT_GT(event.micro_batches, 1);
    parts = event.micro_batches;
  }
  EXPECT_LE(device_use(device).reserved, halves + halves / 8);
  set_device_limit(device, 0);
  Training plain =
      make_training(device, Precision::Fp32, kImages, "yolov5n", (kImages + parts - 1) / parts);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(plain.trainer->step(batch).micro_batches, parts);
  EXPECT_LT(difference(*tight.network, *plain.network), 5e-2);
}

TEST_F(TrainingGpu, RecomputesActivationsForLessMemory) {
  std::int64_t peaks[2] = {0, 0};
  for (const bool recompute : {false, true}) {
    Training t =
        make_training(device, Precision::Fp16, 16, "yolov5s", 0,
                      recompute ? ActivationCheckpointing::On : ActivationCheckpointing::Off);
    const auto batch = to_device(detection_batch(16, 320), device);
    t.trainer->step(batch);
    reset_device_peaks(device);
    EXPECT_TRUE(t.trainer->step(batch).gradient_norm >= 0);
    peaks[recompute ? 1 : 0] = device_use(device).peak_live;
  }
  EXPECT_LT(peaks[1], peaks[0] * 7 / 10);
}

TEST_F(TrainingGpu, CheckpointsGoOnOnEitherDevice) {
  const auto folder = std::filesystem::temp_directory_path() / "brim-gpu-checkpoint";
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "last.pt").string();
  Training t = make_training(device, Precision::Fp32, 4);
  const auto batch = detection_batch(4, 160);
  t.trainer->step(to_device(batch, device));
  save_checkpoint(file, t.trainer->checkpoint());
  for (const torch::Device where : {torch::Device(torch::kCPU), device}) {
    Training again = make_training(where, Precision::Fp32, 4);
    again.trainer->resume(file);
    EXPECT_EQ(difference(*again.network, *t.network), 0);
    EXPECT_TRUE(again.trainer->step(to_device(batch, where)).stepped);
  }
  std::filesystem::remove_all(folder);
}

TEST_F(TrainingGpu, GivesItsMemoryBackAtTheEndOfTheScope) {
  {
    const TrainingScope warm_up;
    make_training(device, Precision::Fp16, 8);
  }
  const std::int64_t before = device_use(device).reserved;
  {
    TrainingScope scope;
    Training t = make_training(device, Precision::Fp16, 16);
    t.trainer->step(to_device(detection_batch(16, 320), device));
    EXPECT_GT(device_use(device).reserved, before + (std::int64_t{100} << 20));
  }
  TrainingScope().release();
  EXPECT_LE(device_use(device).reserved, before + (std::int64_t{32} << 20));
}

TEST_F(TrainingGpu, SuppressesLikeTheCpu) {
  torch::manual_seed(9);
  torch::Tensor rows = torch::rand({2, 3000, 9});
  rows.slice(2, 0, 4).mul_(300);
  const auto here = non_maximum_suppression(rows, {.confidence = 0.3});
  const auto there = non_maximum_suppression(rows.to(device), {.confidence = 0.3});
  ASSERT_EQ(here.size(), there.size());
  for (std::size_t i = 0; i < here.size(); ++i) {
    ASSERT_EQ(here[i].size(), there[i].size());
    for (std::size_t k = 0; k < here[i].size(); ++k) {
      EXPECT_EQ(here[i][k].class_id, there[i][k].class_id);
      EXPECT_EQ(here[i][k].confidence, there[i][k].confidence);
      EXPECT_EQ(here[i][k].box.x1, there[i][k].box.x1);
    }
  }
}

}  // namespace
}  // namespace brim::test
