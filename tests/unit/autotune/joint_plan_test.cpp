#include "brim/autotune/joint_plan.h"

#include <gtest/gtest.h>

namespace brim::autotune {
namespace {

TEST(PlanJointly, ASlowTrainingNeedsAllCoresAndOneWorker) {
  const JointPlan plan = plan_jointly({.cores = 4,
                                       .train_seconds_per_image = 0.030,
                                       .train_threads = 4,
                                       .loader_seconds_per_image = 0.004});
  EXPECT_EQ(plan.chosen.workers, 1);
  EXPECT_GE(plan.chosen.threads, 3);
  EXPECT_LT(plan.chosen.images_per_second, 1 / 0.030);  // both share the cores
}

TEST(PlanJointly, ASlowLoaderGetsTheCores) {
  const JointPlan plan = plan_jointly({.cores = 4,
                                       .train_seconds_per_image = 0.001,
                                       .train_threads = 4,
                                       .loader_seconds_per_image = 0.040});
  EXPECT_GE(plan.chosen.workers, 3);
  EXPECT_NE(plan.limited_by, "training");
}

TEST(PlanJointly, OnAnotherDeviceOnlyAsManyWorkersAsKeepItFed) {
  const JointPlan plan = plan_jointly({.cores = 16,
                                       .train_seconds_per_image = 0.002,
                                       .train_threads = 16,  // do not matter there
                                       .loader_seconds_per_image = 0.007,
                                       .trains_on_cores = false});
  EXPECT_EQ(plan.chosen.workers, 4);
  EXPECT_EQ(plan.limited_by, "training");
  EXPECT_NEAR(plan.chosen.images_per_second, 500, 1);
}

TEST(PlanJointly, NoSplitItConsideredIsFasterByMoreThanTheTolerance) {
  for (int cores = 1; cores <= 8; ++cores) {
    for (const double load : {0.0005, 0.003, 0.02, 0.2}) {
      const JointPlan plan = plan_jointly({.cores = cores,
                                           .train_seconds_per_image = 0.02,
                                           .train_threads = cores,
                                           .loader_seconds_per_image = load});
      EXPECT_GE(plan.chosen.images_per_second, 0.99 * plan.considered.front().images_per_second);
    }
  }
}

}  // namespace
}  // namespace brim::autotune
