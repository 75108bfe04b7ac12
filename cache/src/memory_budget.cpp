#include "brim/cache/memory_budget.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

#include "brim/cache/error.h"

namespace brim {
namespace {

/// A registered give-back callback. Its mutex is held while it runs, so that unregistering waits;
/// recursive, so that a callback may unregister itself.
struct Registration {
  std::recursive_mutex mutex;
  bool alive = true;
  int order = 0;
  std::string holder;
  MemoryBudget::GiveBack give_back;
};

}  // namespace

struct MemoryBudget::Impl {
  MemoryBudgetOptions options;
  mutable std::mutex mutex;
  std::int64_t limit = 0;
  std::int64_t reserved = 0;
  std::int64_t highest = 0;  ///< `reserved` at its most since the present measuring began
  std::mutex measuring;      ///< one measuring at a time; taken before `mutex`
  MemoryLimits limits;
  std::map<std::string, std::int64_t> allowed_at_start;  ///< by the limit's source
  std::chrono::steady_clock::time_point read_at;         ///< when limits were read
  std::map<std::string, std::int64_t> by_holder;
  std::vector<std::shared_ptr<Registration>> registrations;  ///< sorted by order

  /// A limit that is the machine's, and was not read just now.
  bool may_have_changed() const {
    constexpr std::chrono::milliseconds kFresh{10};
    const std::lock_guard lock(mutex);
    return limits.decided_by != "user" && std::chrono::steady_clock::now() - read_at > kFresh;
  }

  /// Lowers what RLIMIT_AS and RLIMIT_DATA allow by the growth that was announced.
  void expect_growth(MemoryLimits& read) {
    const std::lock_guard lock(mutex);
    for (MemoryLimit& one : read.all) {
      if (!one.source.starts_with("RLIMIT")) continue;
      const std::int64_t first = allowed_at_start.try_emplace(one.source, one.limit).first->second;
      one.limit =
          std::max<std::int64_t>(0, std::min(one.limit, first - options.address_space_growth));
      if (one.limit >= read.effective) continue;
      read.effective = one.limit;
      read.decided_by = one.source;
    }
  }

  /// Adds `delta` to the ledger when there is room for it; shrinking always succeeds.
  bool change(const std::string& holder, std::int64_t delta) {
    const std::lock_guard lock(mutex);
    if (delta > 0 && (delta > limit || reserved > limit - delta)) return false;
    reserved += delta;
    highest = std::max(highest, reserved);
    const auto at = by_holder.try_emplace(holder, 0).first;
    at->second += delta;
    if (at->second == 0) by_holder.erase(at);
    return true;
  }
};

Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::move(other.budget_)),
      holder_(std::move(other.holder_)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  budget_ = std::move(other.budget_);
  holder_ = std::move(other.holder_);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Reservation::~Reservation() {
  release();
}

void Reservation::release() {
  if (budget_ == nullptr) return;
  budget_->impl_->change(holder_, -bytes_);
  bytes_ = 0;
  budget_.reset();
}

bool Reservation::resize(std::int64_t bytes) {
  if (budget_ == nullptr || bytes < 0) return false;
  if (bytes <= bytes_) {
    budget_->impl_->change(holder_, bytes - bytes_);
    bytes_ = bytes;
    return true;
  }
  Reservation more = budget_->reserve(holder_, bytes - bytes_);
  if (!more) return false;
  more.budget_.reset();  // its bytes are ours now
  bytes_ = bytes;
  return true;
}

MemoryBudget::MemoryBudget() : impl_(std::make_unique<Impl>()) {}
MemoryBudget::~MemoryBudget() = default;

std::shared_ptr<MemoryBudget> MemoryBudget::make(const MemoryBudgetOptions& options) {
  if (options.byte_limit < 0)
    throw Error("the memory limit is negative", {.key = "memory"},
                "give a size such as 6GiB, or leave it out to use what the machine allows");
  if (!(options.fraction > 0 && options.fraction <= 1))
    throw Error("the planned share of memory must lie in (0, 1]", {.key = "memory.fraction"});
  std::shared_ptr<MemoryBudget> budget(new MemoryBudget());
  budget->impl_->options = options;
  const MemoryLimits limits = budget->refresh();
  std::int64_t base = options.base_bytes;
  if (base < 0) base = options.byte_limit > 0 ? 0 : limits.own_resident;
  if (base > 0) {
    // The base is there already: it is entered even where it exceeds the limit. The ledger does
    // not own it (it would keep the budget alive through its own reservation).
    const std::lock_guard lock(budget->impl_->mutex);
    budget->impl_->reserved += base;
    budget->impl_->by_holder["process"] += base;
  }
  return budget;
}

MemoryLimits MemoryBudget::refresh() {
  MemoryLimits limits = read_memory_limits(0, impl_->options.root);
  impl_->expect_growth(limits);
  const auto machine =
      static_cast<std::int64_t>(static_cast<double>(limits.effective) * impl_->options.fraction);
  const std::int64_t user = impl_->options.byte_limit;
  if (user > 0) limits.all.insert(limits.all.begin(), MemoryLimit{"user", user, 0, user});
  const bool user_decides = user > 0 && (user <= machine || limits.decided_by.empty());
  if (user_decides) {
    limits.effective = user;
    limits.decided_by = "user";
  }
  const std::lock_guard lock(impl_->mutex);
  impl_->limit = user_decides ? user : machine;
  impl_->limits = limits;
  impl_->read_at = std::chrono::steady_clock::now();
  return limits;
}

std::int64_t MemoryBudget::cover(const std::function<std::int64_t()>& measure) {
  const std::lock_guard one(impl_->measuring);
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->highest = impl_->reserved;
  }
  const std::int64_t resident = measure();
  const std::lock_guard lock(impl_->mutex);
  const std::int64_t unknown = resident - impl_->highest;
  if (unknown > 0) {
    impl_->reserved += unknown;
    impl_->by_holder["process"] += unknown;
  }
  return resident;
}

void MemoryBudget::set_base(std::int64_t bytes) {
  const std::lock_guard lock(impl_->mutex);
  std::int64_t& base = impl_->by_holder["process"];
  impl_->reserved += bytes - base;
  impl_->highest = std::max(impl_->highest, impl_->reserved);
  base = bytes;
}

std::string MemoryBudget::remedy(std::int64_t bytes) const {
  constexpr std::int64_t kMiB = 1 << 20;
  const std::lock_guard lock(impl_->mutex);
  // What was measured and not reserved differs from run to run: of libraries, the pages that happen
  // to be in the page cache become resident together.
  const std::int64_t varies = impl_->by_holder.contains("process") ? 32 * kMiB : 0;
  const std::int64_t missing = std::max<std::int64_t>(0, impl_->reserved + bytes - impl_->limit);
  const MemoryLimits& limits = impl_->limits;
  const bool user = limits.decided_by == "user";
  const auto decisive = std::find_if(limits.all.begin(), limits.all.end(), [&](const auto& one) {
    return one.source == limits.decided_by;
  });
  const std::int64_t set = decisive != limits.all.end() ? decisive->ceiling : impl_->limit;
  const double share = user ? 1 : impl_->options.fraction;
  const std::int64_t more =
      static_cast<std::int64_t>(static_cast<double>(missing) / share) + varies;
  const std::string needed = std::to_string((set + more + kMiB - 1) / kMiB) + " MiB";
  if (user) return "the smallest budget that works is " + needed;
  if (limits.decided_by == "MemAvailable")
    return "this machine would have to have " + format_bytes(more) + " more free";
  return "raise " + limits.decided_by + " to at least " + needed;
}

MemoryLimits MemoryBudget::limits() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->limits;
}

std::int64_t MemoryBudget::limit() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->limit;
}

std::int64_t MemoryBudget::reserved() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->reserved;
}

std::int64_t MemoryBudget::available() const {
  const std::lock_guard lock(impl_->mutex);
  return std::max<std::int64_t>(0, impl_->limit - impl_->reserved);
}

Reservation MemoryBudget::try_reserve(const std::string& holder, std::int64_t bytes) {
  Reservation reservation;
  if (bytes < 0 || !impl_->change(holder, bytes)) return reservation;
  reservation.budget_ = shared_from_this();
  reservation.holder_ = holder;
  reservation.bytes_ = bytes;
  return reservation;
}

Reservation MemoryBudget::reserve(const std::string& holder, std::int64_t bytes) {
  // Several rounds: what a holder gives back may be taken by another thread before it is ours.
  for (int round = 0; round < 16; ++round) {
    Reservation reservation = try_reserve(holder, bytes);
    if (reservation) return reservation;
    // What others held when the machine was last looked at may have been given back.
    if (round == 0 && impl_->may_have_changed()) {
      refresh();
      continue;
    }
    if (bytes > limit()) return reservation;
    const std::int64_t missing = bytes - available();
    if (missing > 0 && ask_back(missing) <= 0) break;
  }
  return try_reserve(holder, bytes);
}

Reservation MemoryBudget::reserve_or_throw(const std::string& holder, std::int64_t bytes) {
  Reservation reservation = reserve(holder, bytes);
  if (reservation) return reservation;
  throw Error(holder + " needs " + format_bytes(bytes) + " of memory, but " + state(),
              {.key = "memory"},
              remedy(bytes) + "; a smaller batch, fewer workers or a smaller cache need less");
}

std::string MemoryBudget::state() const {
  std::string list;
  for (const Holder& h : holders())
    list += (list.empty() ? "" : ", ") + h.name + " " + format_bytes(h.bytes);
  return format_bytes(available()) + " of the " + format_bytes(limit()) + " limit (set by " +
         limits().decided_by + ") are left; held: " + (list.empty() ? "nothing" : list);
}

std::shared_ptr<void> MemoryBudget::on_pressure(int order, std::string holder, GiveBack give_back) {
  auto registration = std::make_shared<Registration>();
  registration->order = order;
  registration->holder = std::move(holder);
  registration->give_back = std::move(give_back);
  {
    const std::lock_guard lock(impl_->mutex);
    auto& all = impl_->registrations;
    const auto at = std::upper_bound(all.begin(), all.end(), order,
                                     [](int value, const auto& r) { return value < r->order; });
    all.insert(at, registration);
  }
  std::weak_ptr<MemoryBudget> weak = weak_from_this();
  return {registration.get(), [weak, registration](void*) {
            if (const auto budget = weak.lock()) {
              const std::lock_guard lock(budget->impl_->mutex);
              std::erase(budget->impl_->registrations, registration);
            }
            const std::lock_guard lock(registration->mutex);
            registration->alive = false;
          }};
}

std::int64_t MemoryBudget::ask_back(std::int64_t bytes) {
  std::vector<std::shared_ptr<Registration>> all;
  {
    const std::lock_guard lock(impl_->mutex);
    all = impl_->registrations;
  }
  std::int64_t freed = 0;
  for (const auto& registration : all) {
    if (freed >= bytes) break;
    const std::lock_guard lock(registration->mutex);
    if (registration->alive) freed += registration->give_back(bytes - freed);
  }
  return freed;
}

std::vector<MemoryBudget::Holder> MemoryBudget::holders() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<Holder> list;
  for (const auto& [name, bytes] : impl_->by_holder) list.push_back({name, bytes});
  std::sort(list.begin(), list.end(),
            [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  return list;
}

}  // namespace brim
