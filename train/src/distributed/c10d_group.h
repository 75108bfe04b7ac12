#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#include "brim/cache/error.h"
#include "brim/train/process_group.h"
#include "local_sums.h"

namespace brim::detail {

/// The error that `error`, thrown by an engine on `rank`, means to a user.
[[noreturn]] void throw_rank_error(int rank, const std::exception& error);

/// What keeps a group together besides its collectives: the meeting point and the watch over the
/// other ranks.
class Membership {
 public:
  virtual ~Membership() = default;
  virtual void leave() = 0;
};

class C10dPending final : public PendingCollective {
 public:
  C10dPending(int rank, c10::intrusive_ptr<c10d::Work> work)
      : rank_(rank), work_(std::move(work)) {}
  void wait() override {
    try {
      work_->wait();
    } catch (const std::exception& error) {
      throw_rank_error(rank_, error);
    }
  }

 private:
  int rank_;
  c10::intrusive_ptr<c10d::Work> work_;
};

/// A group over two c10d engines, which may be of one kind. `Sums` carries sums in flight and all
/// tensors of a GPU where it is made for those; `Values` the short exchanges between CPUs, which
/// then cannot change places with sums.
template <class Sums, class Values>
class C10dGroup final : public ProcessGroup {
 public:
  /// `local` (or null) takes what is small.
  C10dGroup(int rank, int size, c10::intrusive_ptr<Sums> sums, c10::intrusive_ptr<Values> values,
            std::unique_ptr<LocalSums> local, std::shared_ptr<Membership> membership)
      : membership_(std::move(membership)),
        local_(std::move(local)),
        rank_(rank),
        size_(size),
        sums_(std::move(sums)),
        values_(std::move(values)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<PendingCollective> start_sum(torch::Tensor tensor) override {
    return begin([&] {
      std::vector<torch::Tensor> tensors{std::move(tensor)};
      return sums_->allreduce(tensors, c10d::AllreduceOptions());
    });
  }
  void reduce(torch::Tensor tensor, Reduction reduction) override {
    if (local_ != nullptr && local_->takes(tensor))
      return here([&] { local_->reduce(tensor, reduction); });
    exchange(tensor, [&](auto& engine) {
      c10d::AllreduceOptions options;
      options.reduceOp = reduction == Reduction::Sum   ? c10d::ReduceOp::SUM
                         : reduction == Reduction::Min ? c10d::ReduceOp::MIN
                                                       : c10d::ReduceOp::MAX;
      std::vector<torch::Tensor> tensors{tensor};
      return engine.allreduce(tensors, options);
    });
  }
  std::vector<torch::Tensor> gather(const torch::Tensor& tensor) override {
    std::vector<std::vector<torch::Tensor>> all(1);
    if (local_ != nullptr && local_->holds(tensor)) {
      here([&] { all[0] = local_->gather(tensor); });
      return std::move(all[0]);
    }
    for (int i = 0; i < size_; ++i) all[0].push_back(torch::empty_like(tensor));
    exchange(tensor, [&](auto& engine) {
      std::vector<torch::Tensor> own{tensor};
      return engine.allgather(all, own, c10d::AllgatherOptions());
    });
    return std::move(all[0]);
  }
  void broadcast(torch::Tensor tensor, int root) override {
    exchange(tensor, [&](auto& engine) {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<torch::Tensor> tensors{tensor};
      return engine.broadcast(tensors, options);
    });
  }
  /// The watch ends before the connections do, and nobody's goes on when the first rank is gone.
  void leave() override {
    membership_->leave();
    reduce(torch::zeros({1}), Reduction::Sum);
  }

 private:
  /// Runs `call`, which goes through the machine's memory.
  template <class Call>
  void here(const Call& call) {
    try {
      call();
    } catch (const std::exception& error) {
      throw_rank_error(rank_, error);
    }
  }

  template <class Start>
  std::unique_ptr<C10dPending> begin(const Start& start) {
    try {
      return std::make_unique<C10dPending>(rank_, start());
    } catch (const std::exception& error) {
      throw_rank_error(rank_, error);
    }
  }

  /// Runs `call` on the engine that carries `tensor`, to its end.
  template <class Call>
  void exchange(const torch::Tensor& tensor, const Call& call) {
    if constexpr (!std::is_same_v<Sums, Values>) {
      if (tensor.is_cuda()) return begin([&] { return call(*sums_); })->wait();
    }
    begin([&] { return call(*values_); })->wait();
  }

  std::shared_ptr<Membership> membership_;  // ends last: it ends a process that would wait forever
  std::unique_ptr<LocalSums> local_;
  int rank_, size_;
  c10::intrusive_ptr<Sums> sums_;
  c10::intrusive_ptr<Values> values_;
};

}  // namespace brim::detail
