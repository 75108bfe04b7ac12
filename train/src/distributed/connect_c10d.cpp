#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

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

}  // namespace

std::shared_ptr<ProcessGroup> connect(const RankPlace& place, const ConnectOptions& options) {
  if (place.size == 1) return make_single_process();
  if (options.device.is_cuda())
    throw Error("this build cannot join several CUDA devices: it has no NCCL",
                {.key = "train.device"},
                "train on one CUDA device, or on the CPU with --device cpu");
  const auto store = detail::meet(place, options);
  auto heartbeat = std::make_shared<detail::Heartbeat>(place, options);
  try {
    auto sums = make_gloo(place, options, store, "sums");
    auto values = make_gloo(place, options, store, "values");
    auto local = detail::LocalSums::make(place, *store);
    return std::make_shared<detail::C10dGroup<Gloo>>(place.rank, place.size, std::move(sums),
                                                     std::move(values), std::move(local),
                                                     std::move(heartbeat));
  } catch (const std::exception& error) {
    detail::throw_rank_error(place.rank, error);
  }
}

}  // namespace brim
