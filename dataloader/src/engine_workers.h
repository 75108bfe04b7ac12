#pragma once

#include <memory>

namespace brim::detail {

/// Threads of a loader's own, at lower priority than the process. No thread waits here: one that
/// has no work leaves, and `enqueue` brings one back.
class Workers {
 public:
  /// `count` >= 1 may exceed the processors. `niceness` is added to the process's own.
  Workers(int count, int niceness);
  /// Drops the calls that no thread has begun and waits for those that one has.
  ~Workers();

  using Function = void (*)(void*);
  /// Calls `function(argument)` once on some worker. Never waits, may be called by anyone.
  void enqueue(Function function, void* argument);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brim::detail
