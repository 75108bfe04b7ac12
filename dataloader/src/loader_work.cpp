#include "loader_engine.h"

namespace brim::detail {

void Engine::work_entry(void* engine) {
  static_cast<Engine*>(engine)->work();
}

void Engine::work() {
  Lock lock(home_->mutex);
  --called_;
  ++active_;
  WorkerScratch* scratch = free_scratches_.back();
  free_scratches_.pop_back();
  while (true) {
    Job job;
    try {
      job = take();
    } catch (...) {
      finish({}, std::current_exception(), lock);
    }
    if (job.kind == Job::Kind::None) break;
    wake();
    lock.unlock();
    const std::exception_ptr error = perform(job, *scratch);
    lock.lock();
    finish(job, error, lock);
  }
  free_scratches_.push_back(scratch);
  note_time();
  if (--active_ == 0) idle_.notify_all();
  if (error_) changed_.notify_all();
}

std::exception_ptr Engine::perform(const Job& job, WorkerScratch& scratch) {
  try {
    switch (job.kind) {
      case Job::Kind::None:
        break;
      case Job::Kind::Hint:
        hint(scratch);
        break;
      case Job::Kind::Load:
        source_.load(job.entry->index, {}, scratch.load, job.entry->loaded);
        break;
      case Job::Kind::Compose:
        compose(*job.unit, scratch);
        break;
      case Job::Kind::Whole:
        make_whole(*job.unit, scratch);
        break;
    }
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

void Engine::compose(Unit& unit, WorkerScratch& scratch) {
  const auto count = static_cast<std::size_t>(unit.recipe.source_count);
  for (std::size_t i = 0; i < count; ++i) scratch.loaded[i] = &unit.sources[i]->loaded;
  apply(unit, scratch);
}

void Engine::make_whole(Unit& unit, WorkerScratch& scratch) {
  const auto count = static_cast<std::size_t>(unit.recipe.source_count);
  while (scratch.images.size() < count) scratch.images.push_back(std::make_unique<LoadedImage>());
  for (std::size_t i = 0; i < count; ++i) {
    LoadedImage& image = *scratch.images[i];
    const RegionQuery region{transform_.get(), &unit.recipe, static_cast<int>(i)};
    source_.load(unit.recipe.sources[i], region, scratch.load, image);
    scratch.loaded[i] = &image;
  }
  apply(unit, scratch);
  for (std::size_t i = 0; i < count; ++i) scratch.images[i]->blob.owner.reset();
}

void Engine::apply(Unit& unit, WorkerScratch& scratch) {
  const StageTimer timer(scratch.load.recorder, Stage::Augment);
  const auto count = static_cast<std::size_t>(unit.recipe.source_count);
  for (std::size_t i = 0; i < count; ++i) {
    const LoadedImage& image = *scratch.loaded[i];
    unit.recipe.sources[i] = image.index;
    scratch.sources[i] = {image.view, image.info,
                          dataset_->record(image.index, scratch.records[i])};
  }
  Slot& slot = *unit.slot;
  const auto entry = static_cast<std::size_t>(unit.entry);
  SampleOut& out = slot.outs[entry];
  out.pixels = {slot.pixels.get() + entry * slot.sample_bytes(), slot.width, slot.height,
                std::ptrdiff_t{3} * slot.width};
  out.targets.clear();
  out.class_id = scratch.sources[0].record.class_id;
  out.placement = {};
  slot.samples[entry] = {scratch.loaded[0]->index, scratch.loaded[0]->replaced, unit.padding, {}};
  transform_->apply(unit.recipe, {scratch.sources.data(), count}, scratch.transform.get(), out);
}

void Engine::hint(WorkerScratch& scratch) {
  {
    const Lock lock(home_->mutex);
    next_hints(scratch.hint_indices);
  }
  source_.will_need(scratch.hint_indices, scratch.load.record, scratch.hint_keys);
}

}  // namespace brim::detail
