#include "local_sums.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>
#include <utility>

namespace brim::detail {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 10;
constexpr int kSpins = 4000;  // some tens of microseconds
constexpr long kSleepNs = 50'000'000;

/// A file descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

void set_text(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
}

std::string text_of(c10d::Store& store, const std::string& key) {
  const std::vector<std::uint8_t> bytes = store.get(key);
  return {bytes.begin(), bytes.end()};
}

bool has_ended(int process) {
  pollfd entry{process, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

template <class T>
T reduced(T a, T b, Reduction reduction) {
  if (reduction == Reduction::Sum) return a + b;
  return reduction == Reduction::Min ? std::min(a, b) : std::max(a, b);
}

}  // namespace

/// What a rank publishes. Two buffers: one is written while others may still read the one before;
/// nobody is two rounds ahead of anybody.
struct LocalSums::Place {
  std::atomic<std::uint32_t> round;
  std::byte padding[60];
  alignas(64) std::byte values[2][kMostBytes];
};

LocalSums::LocalSums(const RankPlace& place, void* memory, std::vector<int> processes)
    : rank_(place.rank),
      size_(place.size),
      memory_(static_cast<std::byte*>(memory)),
      processes_(std::move(processes)) {}

LocalSums::~LocalSums() {
  ::munmap(memory_, sizeof(Place) * static_cast<std::size_t>(size_));
  for (const int process : processes_)
    if (process >= 0) ::close(process);
}

std::unique_ptr<LocalSums> LocalSums::make(const RankPlace& place, c10d::Store& store) {
  if (place.local_size != place.size) return nullptr;
  const std::size_t bytes = sizeof(Place) * static_cast<std::size_t>(place.size);
  const auto key = [](const char* what, int rank) {
    return std::string("brim/local/") + what + "/" + std::to_string(rank);
  };
  // The memory has no name: it is found through the descriptor of rank 0, and goes with its users.
  const Descriptor own(place.rank == 0 ? static_cast<int>(::memfd_create("brim-ranks", MFD_CLOEXEC))
                                       : -1);
  const bool made = own.number() >= 0 && ::ftruncate(own.number(), static_cast<off_t>(bytes)) == 0;
  set_text(store, key("process", place.rank), std::to_string(::getpid()));
  if (place.rank == 0)
    set_text(store, key("memory", 0),
             made ? "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(own.number())
                  : "none");
  const Descriptor shared(::open(text_of(store, key("memory", 0)).c_str(), O_RDWR | O_CLOEXEC));
  void* memory = shared.number() < 0 ? MAP_FAILED
                                     : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                                              shared.number(), 0);
  std::vector<int> processes(static_cast<std::size_t>(place.size), -1);
  bool good = memory != MAP_FAILED;
  for (int rank = 0; good && rank < place.size; ++rank) {
    if (rank == place.rank) continue;
    const int process = std::stoi(text_of(store, key("process", rank)));
    auto& watch = processes[static_cast<std::size_t>(rank)];
    watch = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
    good = watch >= 0;
  }
  auto sums = memory == MAP_FAILED
                  ? nullptr
                  : std::unique_ptr<LocalSums>(new LocalSums(place, memory, std::move(processes)));
  set_text(store, key("joins", place.rank), good ? "yes" : "no");
  for (int rank = 0; rank < place.size; ++rank)
    if (text_of(store, key("joins", rank)) != "yes") return nullptr;
  return sums;
}

LocalSums::Place& LocalSums::of(int rank) const {
  return reinterpret_cast<Place*>(memory_)[rank];
}

bool LocalSums::holds(const torch::Tensor& tensor) const {
  return tensor.is_cpu() && tensor.is_contiguous() && tensor.nbytes() <= kMostBytes;
}

bool LocalSums::takes(const torch::Tensor& tensor) const {
  const auto type = tensor.scalar_type();
  return holds(tensor) && (type == torch::kDouble || type == torch::kFloat || type == torch::kLong);
}

/// Returns when `rank` has published what it has in this round.
void LocalSums::wait_for(int rank) const {
  std::atomic<std::uint32_t>& round = of(rank).round;
  const auto here = [&](std::uint32_t at) { return static_cast<std::int32_t>(at - round_) >= 0; };
  for (int spin = 0; spin < kSpins; ++spin) {
    if (here(round.load(std::memory_order_acquire))) return;
    pause_briefly();
  }
  while (true) {
    const std::uint32_t seen = round.load(std::memory_order_acquire);
    if (here(seen)) return;
    const timespec sleep{0, kSleepNs};
    ::syscall(SYS_futex, &round, FUTEX_WAIT, seen, &sleep, nullptr, 0);
    if (here(round.load(std::memory_order_acquire))) return;
    if (has_ended(processes_[static_cast<std::size_t>(rank)]))
      throw std::runtime_error("the process of rank " + std::to_string(rank) + " has ended");
  }
}

std::size_t LocalSums::publish(const torch::Tensor& tensor) {
  Place& own = of(rank_);
  const std::size_t buffer = ++round_ % 2;
  std::memcpy(own.values[buffer], tensor.data_ptr(), tensor.nbytes());
  own.round.store(round_, std::memory_order_release);
  ::syscall(SYS_futex, &own.round, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
  for (int rank = 0; rank < size_; ++rank)
    if (rank != rank_) wait_for(rank);
  return buffer;
}

std::vector<torch::Tensor> LocalSums::gather(const torch::Tensor& tensor) {
  const std::size_t buffer = publish(tensor);
  std::vector<torch::Tensor> all;
  for (int rank = 0; rank < size_; ++rank) {
    all.push_back(torch::empty_like(tensor));
    std::memcpy(all.back().data_ptr(), of(rank).values[buffer], tensor.nbytes());
  }
  return all;
}

void LocalSums::reduce(const torch::Tensor& tensor, Reduction reduction) {
  const std::size_t buffer = publish(tensor);
  const auto join = [&](auto* out) {
    using T = std::remove_pointer_t<decltype(out)>;
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      T all = reinterpret_cast<const T*>(of(0).values[buffer])[i];
      for (int rank = 1; rank < size_; ++rank)
        all = reduced(all, reinterpret_cast<const T*>(of(rank).values[buffer])[i], reduction);
      out[i] = all;
    }
  };
  if (tensor.scalar_type() == torch::kDouble) join(tensor.data_ptr<double>());
  if (tensor.scalar_type() == torch::kFloat) join(tensor.data_ptr<float>());
  if (tensor.scalar_type() == torch::kLong) join(tensor.data_ptr<std::int64_t>());
}

}  // namespace brim::detail
