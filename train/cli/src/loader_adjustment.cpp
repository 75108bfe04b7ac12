#include "loader_adjustment.h"

#include <fmt/format.h>

#include "brim/dataloader/loader.h"

namespace brim::cli {
namespace {

autotune::LoaderSetting setting_of(AdaptiveSource& source) {
  const LoaderPlan& plan = source.loader().plan();
  return {plan.workers, plan.prefetch_batches};
}

}  // namespace

LoaderAdjustment::LoaderAdjustment(AdaptiveSource& source, const MemoryPressure& pressure,
                                   std::span<Observer* const> told)
    : source_(source),
      pressure_(pressure),
      told_(told.begin(), told.end()),
      balance_(setting_of(source), {.most_workers = available_cpus()}) {}

void LoaderAdjustment::on_step(const StepEvent& event) {
  balance_.set(setting_of(source_));
  if (balance_.setting().workers < 1 || pressure_.acted()) return;
  const autotune::LoaderSetting before = balance_.setting();
  const auto wanted = balance_.step(event.images, event.step_seconds, event.wait_seconds);
  if (!wanted || !source_.change(wanted->workers, wanted->prefetch)) return;
  const Note note{Note::Kind::Memory, event.epoch, event.batch,
                  fmt::format("loader: {} workers and {} batches ahead (were {} and {})",
                              wanted->workers, wanted->prefetch, before.workers, before.prefetch)};
  for (Observer* observer : told_) observer->on_note(note);
}

}  // namespace brim::cli
