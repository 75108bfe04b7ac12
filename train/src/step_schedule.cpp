#include "brim/train/schedule.h"
#include "brim/train/trainer.h"

namespace brim {

StepSchedule make_schedule(const ScheduleOptions& options) {
  return [options](int epoch, std::int64_t batch, std::int64_t batches) {
    ScheduleOptions whole = options;
    whole.batches_per_epoch = batches;
    const ScheduleStep now = schedule_at(whole, epoch * batches + batch);
    return StepPlan{{now.lr_bias, now.lr_weight, now.lr_norm}, now.momentum, now.accumulate};
  };
}

}  // namespace brim
