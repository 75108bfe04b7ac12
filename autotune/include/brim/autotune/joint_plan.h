#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brim::autotune {

/// What one machine has and what one image costs on it.
struct JointCosts {
  int cores = 1;                       ///< that this process may use
  double train_seconds_per_image = 0;  ///< measured with `train_threads`
  int train_threads = 1;
  double serial_share = 0.1;            ///< of the training's work that one thread does (Amdahl)
  double loader_seconds_per_image = 0;  ///< of one core: read, decode, augment
  bool trains_on_cores = true;          ///< false: another device trains, the cores only load
};

/// One way to share the cores.
struct JointSplit {
  int threads = 1;  ///< of the training
  int workers = 0;  ///< of the loader
  double images_per_second = 0;
};

struct JointPlan {
  JointSplit chosen{};
  std::vector<JointSplit> considered{};  ///< every split, best first
  std::string limited_by;                ///< "training", "loading", "cores"
  std::string why;
};

/// images/s = min(1 / T(t), w / L, C / (t T(t) + L)) for t threads and w workers on C cores: the
/// training's own pace, the loader's, and what all cores together can do, since on a CPU both live
/// on the same ones. The fastest split wins; within 1% the one with fewer workers, then threads.
JointPlan plan_jointly(const JointCosts& costs, int most_workers = 64);

}  // namespace brim::autotune
