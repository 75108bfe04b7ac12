#include "memory_pressure.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>

#include "brim/cache/memory_monitor.h"
#include "brim/cache/process_memory.h"
#include "brim/train/cpu_allocator.h"
#include "program.h"

namespace brim::cli {
namespace {

constexpr std::int64_t kWorthTrimming = std::int64_t{16} << 20;

std::string trim() {
  const std::int64_t before = own_private_bytes();
  release_cpu_memory();
  malloc_trim(0);
  const std::int64_t given = before - own_private_bytes();
  return given >= kWorthTrimming ? "gave " + format_bytes(given) + " of free memory back" : "";
}

}  // namespace

MemoryPressure::MemoryPressure(const Parts& parts)
    : parts_(parts), told_(parts.told.begin(), parts.told.end()) {
  workers_ = parts_.source.loader().plan().workers;
  prefetch_ = parts_.source.loader().plan().prefetch_batches;
  ladder_ = std::make_unique<autotune::PressureLadder>(
      resident_bytes, [budget = parts_.budget] { return budget->limit(); }, rungs());
}

std::vector<autotune::Rung> MemoryPressure::rungs() {
  const auto shares = autotune::rung_shares(parts_.planned_share);
  const auto restore = [this]() -> std::string {
    const auto& plan = parts_.source.loader().plan();
    if (plan.workers == workers_ && plan.prefetch_batches == prefetch_) return "";
    return parts_.source.change(workers_, prefetch_)
               ? fmt::format("memory is free again: {} workers, {} batches ahead", workers_,
                             prefetch_)
               : "";
  };
  std::vector<autotune::Rung> rungs{
      {shares[0], "trim", trim},
      {shares[0], "prefetch", [this] { return reduce_prefetch(); }, restore},
      {shares[1], "workers", [this] { return reduce_workers(); }, restore},
      {shares[1], "cache", [this] { return reduce_cache(); }}};
  if (parts_.trains_here) {
    rungs.push_back({shares[2], "micro-batch", [this] { return reduce_parts(); }});
    rungs.push_back({shares[2], "activations", [this]() -> std::string {
                       return parts_.trainer.recompute_activations() ? "activations are recomputed"
                                                                     : "";
                     }});
  }
  rungs.push_back(
      {shares[2],
       "stop",
       [this]() -> std::string {
         stop_ = true;
         stop_requested = true;
         return "nothing is left to give back; the run ends with a checkpoint, --resume goes on "
                "from it with more --memory, a smaller --batch or --img";
       },
       {},
       true});
  return rungs;
}

std::string MemoryPressure::reduce_prefetch() {
  const auto& plan = parts_.source.loader().plan();
  if (plan.prefetch_batches <= 1) return "";
  const int ahead = plan.prefetch_batches / 2;
  return parts_.source.change(plan.workers, ahead) ? fmt::format("{} batches ahead", ahead) : "";
}

std::string MemoryPressure::reduce_workers() {
  const auto& plan = parts_.source.loader().plan();
  if (plan.workers <= 1) return "";
  const int workers = plan.workers / 2;
  return parts_.source.change(workers, plan.prefetch_batches) ? fmt::format("{} workers", workers)
                                                              : "";
}

std::string MemoryPressure::reduce_cache() {
  const std::int64_t wanted = parts_.budget->limit() / 10;
  const std::int64_t given = parts_.budget->ask_back(wanted);
  malloc_trim(0);
  return given > 0 ? "gave " + format_bytes(given) + " back" : "";
}

std::string MemoryPressure::reduce_parts() {
  const std::int64_t parts = last_.micro_batches + 1;
  const std::int64_t images = last_.images / parts_.ranks;
  const std::int64_t size = (images + parts - 1) / parts;
  if (images < 2 || parts > images) return "";
  parts_.trainer.reduce_parts(size);
  release_cpu_memory();
  return fmt::format("{} micro-batches of {} images", parts, size);
}

void MemoryPressure::on_step(const StepEvent& event) {
  // The last batch of an epoch may be smaller: parts are made for full ones.
  if (event.images >= last_.images) last_ = event;
  const auto done = ladder_->check();
  if (!done) return;
  const Note note{Note::Kind::Memory, event.epoch, event.batch, done->message};
  for (Observer* observer : told_) observer->on_note(note);
}

std::string MemoryPressure::summary() const {
  std::string text;
  for (const auto& [name, times] : ladder_->counts())
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, times);
  return text;
}

}  // namespace brim::cli
