#include "brim/cache/error.h"
#include "brim/train/process_group.h"

namespace brim {

std::shared_ptr<ProcessGroup> connect(const RankPlace& place, const ConnectOptions& /*options*/) {
  if (place.size == 1) return make_single_process();
  throw Error("this build trains in one process only: its LibTorch has no distributed engine",
              {.key = "WORLD_SIZE"},
              "build with a LibTorch that has c10d, and with the headers of Gloo (libgloo-dev)");
}

}  // namespace brim
