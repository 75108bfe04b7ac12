#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "brim/train/schedule.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

TEST(ScheduleVectors, HoldForEveryBatchOfALinearAndACosineRun) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/schedule.json");
  const auto v = nlohmann::json::parse(read_file(path));
  const auto& hyp = v.at("hyp");
  AccumulationWindow window;
  int rows = 0;
  for (const auto& row : v.at("rows")) {
    const ScheduleOptions options{.lr0 = hyp.at("lr0"),
                                  .lrf = hyp.at("lrf"),
                                  .momentum = hyp.at("momentum"),
                                  .warmup_epochs = hyp.at("warmup_epochs"),
                                  .warmup_momentum = hyp.at("warmup_momentum"),
                                  .warmup_bias_lr = hyp.at("warmup_bias_lr"),
                                  .cosine = row[0].get<int>() != 0,
                                  .epochs = v.at("epochs"),
                                  .batches_per_epoch = v.at("batches"),
                                  .batch_size = v.at("batch_size"),
                                  .nominal_batch = v.at("nominal_batch_size")};
    const auto step =
        row[1].get<std::int64_t>() * options.batches_per_epoch + row[2].get<std::int64_t>();
    if (step == 0) window = AccumulationWindow();
    const ScheduleStep s = schedule_at(options, step);
    SCOPED_TRACE("row " + row.dump());
    EXPECT_NEAR(s.lr_bias, row[3].get<double>(), 1e-15);
    EXPECT_NEAR(s.lr_weight, row[4].get<double>(), 1e-15);
    EXPECT_NEAR(s.lr_norm, row[5].get<double>(), 1e-15);
    EXPECT_NEAR(s.momentum, row[6].get<double>(), 1e-15);
    EXPECT_EQ(s.accumulate, row[7].get<std::int64_t>());
    EXPECT_EQ(window.closes(step, s.accumulate), row[8].get<int>() != 0);
    ++rows;
  }
  EXPECT_EQ(rows, 400);
}

}  // namespace
}  // namespace brim::test
