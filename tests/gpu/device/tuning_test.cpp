#include <cstdio>

#include "brim/autotune/search.h"
#include "brim/autotune/training_probe.h"
#include "brim/train/detection_loss.h"
#include "gpu/device/gpu_test.h"

namespace brim::test {
namespace {

using namespace brim::autotune;

constexpr std::int64_t kMebi = std::int64_t{1} << 20;

std::function<ProbeSubject()> subject(torch::Device device, Precision precision,
                                      std::int64_t side) {
  return [=] {
    ProbeSubject made;
    made.network = make_network({.model = "yolov5n", .classes = 80});
    made.objective =
        std::make_shared<DetectionLoss>(dynamic_cast<Detector&>(*made.network).anchors(), 80,
                                        DetectionLossOptions{.image_size = static_cast<int>(side)});
    made.options.image_size = side;
    made.options.train.device = device;
    made.options.train.precision = precision;
    made.options.train.activation_checkpointing = ActivationCheckpointing::Off;
    return made;
  };
}

using TuningGpu = Gpu;

TEST_F(TuningGpu, PredictsTheLargestBatchWithinFivePercent) {
  for (const Precision precision : {Precision::Fp16, Precision::Fp32}) {
    for (const std::int64_t limit : {2048 * kMebi, 5000 * kMebi}) {
      set_device_limit(device, limit);
      const auto probe = [&](std::int64_t batch) {
        return measure_training(subject(device, precision, 320), batch, device);
      };
      const BatchPlan plan = choose_batch({.max_batch = 2048, .first_probes = {8, 32}},
                                          {.nominal_batch = 2048}, probe);
      ASSERT_GT(plan.byte_budget, 0);
      std::int64_t fits = 1, too_large = 2048;
      while (too_large - fits > std::max<std::int64_t>(1, fits / 50)) {
        const std::int64_t middle = (fits + too_large) / 2;
        (probe(middle).outcome == Outcome::Fits ? fits : too_large) = middle;
      }
      std::printf("%s, %lld MiB: predicted %lld, largest that runs %lld\n",
                  to_string(precision).c_str(), static_cast<long long>(limit / kMebi),
                  static_cast<long long>(plan.largest_batch), static_cast<long long>(fits));
      EXPECT_GE(plan.largest_batch, fits * 95 / 100 - 1);
      EXPECT_LE(plan.largest_batch, fits * 105 / 100 + 1);
    }
  }
}

TEST_F(TuningGpu, ReportsASizeThatDoesNotFitAndGoesOn) {
  set_device_limit(device, 600 * kMebi);
  const auto make = subject(device, Precision::Fp32, 320);
  EXPECT_EQ(measure_training(make, 256, device).outcome, Outcome::OutOfMemory);
  const Measurement small = measure_training(make, 2, device);
  EXPECT_EQ(small.outcome, Outcome::Fits);
  EXPECT_LE(small.reserved_peak_bytes, 600 * kMebi);
  EXPECT_GT(small.tensor_peak_bytes, 10 * kMebi);
  EXPECT_GT(small.seconds_per_step, 0);
}

}  // namespace
}  // namespace brim::test
