#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace brim {

/// The length of a training as far as memory goes: at its end what was handed to it is dropped, the
/// pools and caches are emptied, and free memory is returned to the system. Owned by whoever trains
/// more than once in a process; one thread.
///
///   {
///     TrainingScope scope;
///     auto network = scope.keep(make_network({.model = "yolov5s"}));
///     Trainer trainer(network, objective, options);
///     trainer.fit(*batches);
///   }   // resident memory is as before
class TrainingScope {
 public:
  TrainingScope() = default;
  ~TrainingScope();
  TrainingScope(const TrainingScope&) = delete;
  TrainingScope& operator=(const TrainingScope&) = delete;

  /// Shares `object` until the end; dropped in the reverse order of keeping.
  template <typename T>
  std::shared_ptr<T> keep(std::shared_ptr<T> object) {
    kept_.push_back(object);
    return object;
  }
  /// Drops what is kept and gives free memory back now; returns the bytes the process gave back.
  std::int64_t release();

 private:
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace brim
