#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef BRIM_WITH_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "brim/cache/error.h"
#include "brim/train/process_group.h"
#include "membership.h"

namespace brim {
namespace {

using Gloo = c10d::ProcessGroupGloo;

c10::intrusive_ptr<Gloo> make_gloo(const RankPlace& place, const ConnectOptions& options,
                                   const c10::intrusive_ptr<c10d::Store>& store,
                                   const std::string& name) {
  const auto engine = Gloo::Options::create(options.collective_timeout);
  engine->threads = 1;  // in order; more would take CPUs from the training
  if (!place.interface.empty())
    engine->devices.push_back(Gloo::createDeviceForInterface(place.interface));
  else if (place.local_size == place.size)
    engine->devices.push_back(Gloo::createDeviceForHostname("127.0.0.1"));
  else
    engine->devices.push_back(Gloo::createDefaultDevice());
  return c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>(name, store), place.rank,
                                   place.size, engine);
}

/// Tensors of GPUs travel by NCCL, the rest by `values`.
std::shared_ptr<ProcessGroup> make_gpu_group(const RankPlace& place, const ConnectOptions& options,
                                             const c10::intrusive_ptr<c10d::Store>& store,
                                             c10::intrusive_ptr<Gloo> values,
                                             std::unique_ptr<detail::LocalSums> local,
                                             std::shared_ptr<detail::Heartbeat> heartbeat) {
#ifdef BRIM_WITH_NCCL
  using Nccl = c10d::ProcessGroupNCCL;
  const auto engine = Nccl::Options::create();
  engine->timeout = options.collective_timeout;
  auto sums = c10::make_intrusive<Nccl>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                        place.rank, place.size, engine);
  return std::make_shared<detail::C10dGroup<Nccl, Gloo>>(place.rank, place.size, std::move(sums),
                                                         std::move(values), std::move(local),
                                                         std::move(heartbeat));
#else
  static_cast<void>(place), static_cast<void>(options), static_cast<void>(store);
  static_cast<void>(values), static_cast<void>(local), static_cast<void>(heartbeat);
  throw Error("this build cannot join several CUDA devices: it has no NCCL",
              {.file = {}, .line = 0, .key = "train.device"},
              "train on one CUDA device, or on the CPU with --device cpu");
#endif
}

}  // namespace

std::shared_ptr<ProcessGroup> connect(const RankPlace& place, const ConnectOptions& options) {
  if (place.size == 1) return make_single_process();
  const auto store = detail::meet(place, options);
  auto heartbeat = std::make_shared<detail::Heartbeat>(place, options);
  try {
    auto values = make_gloo(place, options, store, "values");
    auto local = detail::LocalSums::make(place, *store);
    if (options.device.is_cuda())
      return make_gpu_group(place, options, store, std::move(values), std::move(local),
                            std::move(heartbeat));
    auto sums = make_gloo(place, options, store, "sums");
    return std::make_shared<detail::C10dGroup<Gloo, Gloo>>(place.rank, place.size, std::move(sums),
                                                           std::move(values), std::move(local),
                                                           std::move(heartbeat));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    detail::throw_rank_error(place.rank, error);
  }
}

}  // namespace brim
