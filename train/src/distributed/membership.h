#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "c10d_group.h"

namespace brim::detail {

/// Connects to the meeting point, which rank 0 serves unless it is there already, and waits until
/// every rank has come.
c10::intrusive_ptr<c10d::Store> meet(const RankPlace& place, const ConnectOptions& options);

/// Signs of life. A thread counts up a key of its own in the store and looks at those of the other
/// ranks: one that stands still for too long without having left is reported once, as is a store
/// that is gone. Collectives notice a peer that ends; this notices one that hangs or whose machine
/// is off.
class Heartbeat final : public Membership {
 public:
  Heartbeat(const RankPlace& place, const ConnectOptions& options);
  ~Heartbeat() override;
  void leave() override;

 private:
  void run();
  std::string look(c10d::Store& store);
  bool sleep();

  const RankPlace place_;
  const ConnectOptions options_;
  c10::intrusive_ptr<c10d::Store> store_;  // a connection of its own
  using Clock = std::chrono::steady_clock;
  struct Seen {
    std::string beat{};
    Clock::time_point at{};
  };
  Clock::time_point looked_{};
  std::map<int, Seen> seen_;
  std::int64_t beats_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace brim::detail
