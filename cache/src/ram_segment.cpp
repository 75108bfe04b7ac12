#include "ram_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <span>

#include "file_lock.h"

namespace brim::detail {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kFirstSlotsLog2 = 9;
constexpr std::uint64_t kLargestChunk = std::uint64_t{8} << 20;
constexpr std::uint64_t kSmallestChunk = std::uint64_t{64} << 10;
/// Bytes of the memory that are locked: by who changes it, and by each process for its place.
constexpr std::int64_t kChangeByte = 0;
constexpr std::int64_t kPlaceByte = 16;
/// A change takes microseconds; who waits longer faces a stopped process.
constexpr int kLockTimeoutMs = 250;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

std::uint64_t base_size(std::uint64_t chunk_count) {
  return round_up(sizeof(RamHead), 64) + chunk_count * sizeof(RamChunkRecord);
}

bool give_memory(int file, std::uint64_t offset, std::uint64_t bytes) {
  int code = 0;
  do {
    code = ::fallocate(file, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (code != 0 && errno == EINTR);
  return code == 0;
}

void take_memory(int file, std::uint64_t offset, std::uint64_t bytes) {
  ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(bytes));
}

std::uint64_t generation_of(std::uint64_t life) {
  return life >> 8;
}
std::uint64_t state_of(std::uint64_t life) {
  return life & 0xFF;
}
std::uint64_t life_of(std::uint64_t generation, RamChunkRecord::State state) {
  return (generation & 0xFFFFFFFF) << 8 | state;
}

}  // namespace

/// The right to change the memory: one thread of one process. Ends with the process.
class RamSegment::Lock {
 public:
  explicit Lock(const RamSegment& segment)
      : guard_(segment.mutex_),
        file_(segment.share_->memory()),
        held_(lock_byte(file_, kChangeByte, LockKind::Exclusive, kLockTimeoutMs)) {}
  ~Lock() {
    if (held_) unlock_byte(file_, kChangeByte);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  explicit operator bool() const { return held_; }

 private:
  std::lock_guard<std::mutex> guard_;
  const PosixFile& file_;
  bool held_;
};

std::shared_ptr<RamSegment> RamSegment::open(const std::string& name, std::int64_t byte_limit,
                                             std::int64_t expected_bytes, std::string& why_not) {
  std::shared_ptr<RamSegment> segment(new RamSegment());
  const auto check = [](const PosixFile& memory) {
    std::array<std::uint64_t, 2> head{};
    return memory.read_at(0, std::as_writable_bytes(std::span(head))) &&
           head[0] == RamHead::kMagic && head[1] == kVersion;
  };
  segment->share_ = RamShare::join(
      name, [&](const PosixFile& memory) { return prepare(memory, byte_limit, expected_bytes); },
      check, why_not);
  if (segment->share_ == nullptr || !segment->attach(why_not)) return nullptr;
  return segment;
}

bool RamSegment::prepare(const PosixFile& memory, std::int64_t byte_limit, std::int64_t expected) {
  const auto bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(expected, 1 << 20));
  const std::uint64_t chunk =
      round_up(std::clamp(bytes / 64, kSmallestChunk, kLargestChunk), kPage);
  // Values that are large get chunks of their own, the smallest of a quarter of the usual size.
  const std::uint64_t count =
      std::clamp<std::uint64_t>(4 * (bytes / chunk) + 64, 128, std::uint64_t{1} << 16);
  const std::uint64_t base = round_up(base_size(count), kPage);
  const std::uint64_t table_bytes = sizeof(RamSlot) << kFirstSlotsLog2;
  if (!give_memory(memory.get(), 0, base + table_bytes)) return false;
  void* at = ::mmap(nullptr, base, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return false;
  auto* head = new (at) RamHead{};
  head->magic = RamHead::kMagic;
  head->version = kVersion;
  head->byte_limit = static_cast<std::uint64_t>(std::max<std::int64_t>(byte_limit, 0));
  head->chunk_bytes = chunk;
  head->chunk_count = count;
  head->file_end = base + table_bytes;
  head->table = (base / kPage) << 8 | kFirstSlotsLog2;
  head->current = count;
  ::munmap(at, base);
  return true;
}

bool RamSegment::attach(std::string& why_not) {
  pid_ = ::getpid();
  const int file = descriptor();
  RamHead* head = nullptr;
  void* first = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, file, 0);
  if (first != MAP_FAILED) {
    head = static_cast<RamHead*>(first);
    base_bytes_ = round_up(base_size(head->chunk_count), kPage);
    ::munmap(first, kPage);
    first = ::mmap(nullptr, base_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  if (first == MAP_FAILED) {
    why_not = "no address space for shared memory";
    return false;
  }
  base_ = static_cast<std::byte*>(first);
  head_ = static_cast<RamHead*>(first);
  chunks_ = reinterpret_cast<RamChunkRecord*>(base_ + round_up(sizeof(RamHead), 64));
  const Lock lock(*this);
  if (!lock) {
    why_not = "the shared memory is locked by a process that does not go on";
    return false;
  }
  for (place_ = 0; place_ < RamHead::kProcesses; ++place_) {
    if (!lock_byte(share_->memory(), kPlaceByte + place_, LockKind::Exclusive, 0)) continue;
    owner_ = (head_->epochs[place_].fetch_add(1) + 1) << 8 | place_;
    for (std::uint32_t i = 0; i < chunk_count(); ++i)  // what its former holder left behind
      if (chunks_[i].life.load() != 0) chunks_[i].users.fetch_and(~(std::uint64_t{1} << place_));
    sweep_locked();
    return map_table();
  }
  why_not = "64 processes share it already";
  return false;
}

RamSegment::~RamSegment() {
  unmap_table();
  if (base_ != nullptr) ::munmap(base_, base_bytes_);
}

bool RamSegment::map_table() {
  const std::uint64_t word = head_->table.load(std::memory_order_acquire);
  if (table_.slots != nullptr && table_.word == word) return true;
  Table next{.word = word, .slots = nullptr};
  void* at = ::mmap(nullptr, next.count() * sizeof(RamSlot), PROT_READ | PROT_WRITE, MAP_SHARED,
                    descriptor(), static_cast<off_t>((word >> 8) * kPage));
  if (at == MAP_FAILED) return false;
  unmap_table();
  next.slots = static_cast<RamSlot*>(at);
  table_ = next;
  return true;
}

void RamSegment::unmap_table() {
  if (table_.slots != nullptr) ::munmap(table_.slots, table_.count() * sizeof(RamSlot));
  table_ = {};
}

/// The slot that holds `key`, else (`empty`) the one where it belongs.
RamSlot* RamSegment::slot_of(const CacheKey& key, bool& empty) {
  std::uint64_t i = key.high & table_.mask();
  for (std::uint64_t step = 0; step < table_.count(); ++step, i = (i + 1) & table_.mask()) {
    RamSlot& slot = table_.slots[i];
    empty = (slot.state.load(std::memory_order_acquire) & 0xFF) == RamSlot::kEmpty;
    if (empty) return &slot;
    if (slot.key_high.load(std::memory_order_relaxed) == key.high &&
        slot.key_low.load(std::memory_order_relaxed) == key.low)
      return &slot;
  }
  return nullptr;
}

std::optional<RamValue> RamSegment::find(const CacheKey& key) {
  const std::lock_guard lock(mutex_);
  if (!map_table()) return std::nullopt;
  bool empty = false;
  const RamSlot* slot = slot_of(key, empty);
  if (slot == nullptr || empty) return std::nullopt;
  const std::uint64_t before = slot->state.load(std::memory_order_acquire);
  if ((before & 0xFF) != RamSlot::kReady) return std::nullopt;
  // Acquiring, so that the second look at the state cannot come before any of them.
  const std::uint64_t chunk = slot->chunk.load(std::memory_order_acquire);
  const RamValue value{.chunk = static_cast<std::uint32_t>(chunk),
                       .generation = static_cast<std::uint32_t>(chunk >> 32),
                       .offset = slot->offset.load(std::memory_order_acquire),
                       .length = slot->length.load(std::memory_order_acquire),
                       .checksum = slot->checksum.load(std::memory_order_acquire)};
  const bool same = slot->key_high.load(std::memory_order_acquire) == key.high &&
                    slot->key_low.load(std::memory_order_acquire) == key.low;
  if (!same || slot->state.load(std::memory_order_relaxed) != before) return std::nullopt;
  if (value.chunk >= chunk_count() || !is_live(value.chunk, value.generation)) return std::nullopt;
  const std::uint64_t begin = chunk_offset(value.chunk);
  const std::uint64_t size = chunk_size(value.chunk);
  const bool inside = value.offset >= begin && value.offset <= begin + size &&
                      value.length <= begin + size - value.offset;
  return inside ? std::optional(value) : std::nullopt;
}

bool RamSegment::is_live(std::uint32_t chunk, std::uint32_t generation) const {
  return chunks_[chunk].life.load() == life_of(generation, RamChunkRecord::kLive);
}

bool RamSegment::enter(std::uint32_t chunk, std::uint32_t generation) {
  const std::uint64_t bit = std::uint64_t{1} << place_;
  const bool mine = (chunks_[chunk].users.fetch_or(bit) & bit) != 0;
  // In this order: whoever retires it sees the bit, or we see that it is retired.
  if (is_live(chunk, generation)) return true;
  if (!mine) chunks_[chunk].users.fetch_and(~bit);
  return false;
}

void RamSegment::leave(std::uint32_t chunk) {
  if (::getpid() == pid_) chunks_[chunk].users.fetch_and(~(std::uint64_t{1} << place_));
}

bool RamSegment::valid(const RamSlot& slot) const {
  const std::uint64_t chunk = slot.chunk.load();
  const auto number = static_cast<std::uint32_t>(chunk);
  return number < chunk_count() && is_live(number, static_cast<std::uint32_t>(chunk >> 32));
}

bool RamSegment::owner_lives(std::uint64_t owner) const {
  const std::uint64_t place = owner & 0xFF;
  if (owner == owner_) return true;
  if (place >= RamHead::kProcesses || head_->epochs[place].load() != owner >> 8) return false;
  return byte_is_locked(share_->memory(), kPlaceByte + static_cast<std::int64_t>(place));
}

void RamSegment::fill(RamSlot& slot, const CacheKey& key, const RamValue& value,
                      std::uint64_t owner, RamSlot::Status status) {
  const std::uint64_t changes = (slot.state.load() >> 8) + 1;
  slot.key_high = key.high;
  slot.key_low = key.low;
  slot.state = changes << 8 | RamSlot::kWriting;  // from here on readers pass it over
  slot.chunk = std::uint64_t{value.generation} << 32 | value.chunk;
  slot.offset = value.offset;
  slot.length = value.length;
  slot.checksum = value.checksum;
  slot.owner = owner;
  if (status == RamSlot::kReady) slot.state = (changes + 1) << 8 | RamSlot::kReady;
}

RamSegment::Put RamSegment::place(const CacheKey& key, std::uint64_t length, const Pay& pay,
                                  RamValue& value) {
  const Lock lock(*this);
  if (!lock || !map_table()) return Put::Busy;
  bool empty = false;
  RamSlot* slot = slot_of(key, empty);
  if (slot != nullptr && !empty && valid(*slot)) {
    const bool ready = (slot->state.load() & 0xFF) == RamSlot::kReady;
    if (ready || owner_lives(slot->owner.load())) return Put::There;
  }
  if (slot == nullptr || (empty && (head_->filled.load() + 1) * 8 > table_.count() * 7)) {
    if (!grow_table(pay)) return Put::Full;
    slot = slot_of(key, empty);
  }
  if (slot == nullptr || !allocate(length, pay, value)) return Put::Full;
  if (empty) head_->filled.fetch_add(1);
  fill(*slot, key, value, owner_, RamSlot::kWriting);
  return Put::Placed;
}

bool RamSegment::publish(const CacheKey& key, const RamValue& value) {
  const Lock lock(*this);
  if (!lock || !map_table()) return false;
  bool empty = false;
  RamSlot* slot = slot_of(key, empty);
  if (slot == nullptr || empty || slot->owner.load() != owner_ ||
      slot->offset.load() != value.offset || !valid(*slot))
    return false;
  fill(*slot, key, value, 0, RamSlot::kReady);
  chunks_[value.chunk].entries.fetch_add(1);
  return true;
}

void RamSegment::forget(const CacheKey& key, const RamValue& value) {
  const Lock lock(*this);
  if (!lock || !map_table()) return;
  bool empty = false;
  RamSlot* slot = slot_of(key, empty);
  if (slot == nullptr || empty || slot->offset.load() != value.offset || !valid(*slot)) return;
  const bool ready = (slot->state.load() & 0xFF) == RamSlot::kReady;
  RamValue nowhere;
  nowhere.generation = ~std::uint32_t{0};
  fill(*slot, key, nowhere, 0, RamSlot::kWriting);
  if (ready) chunks_[value.chunk].entries.fetch_sub(1);
}

/// Under the lock. A table of twice the slots (or as many, where most values are gone) takes the
/// place of the full one, whose memory is given back.
bool RamSegment::grow_table(const Pay& pay) {
  std::uint64_t kept = 0;
  for (std::uint64_t i = 0; i < table_.count(); ++i)
    kept += (table_.slots[i].state.load() & 0xFF) != RamSlot::kEmpty && valid(table_.slots[i]);
  std::uint64_t log2 = table_.word & 0xFF;
  if (kept * 2 > table_.count()) ++log2;
  const std::uint64_t bytes = sizeof(RamSlot) << log2;
  const std::uint64_t offset = head_->file_end.load();
  if (!fits(bytes) || !pay(static_cast<std::int64_t>(bytes))) return false;
  if (!give_memory(descriptor(), offset, bytes)) return false;
  head_->file_end = offset + bytes;
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor(),
                    static_cast<off_t>(offset));
  if (at == MAP_FAILED) return false;
  const Table old = table_;
  table_ = {.word = (offset / kPage) << 8 | log2, .slots = static_cast<RamSlot*>(at)};
  for (std::uint64_t i = 0; i < old.count(); ++i) {
    const RamSlot& from = old.slots[i];
    if ((from.state.load() & 0xFF) == RamSlot::kEmpty || !valid(from)) continue;
    const CacheKey key{from.key_high.load(), from.key_low.load()};
    bool empty = false;
    RamSlot* to = slot_of(key, empty);
    const std::uint64_t chunk = from.chunk.load();
    const RamValue value{.chunk = static_cast<std::uint32_t>(chunk),
                         .generation = static_cast<std::uint32_t>(chunk >> 32),
                         .offset = from.offset.load(),
                         .length = from.length.load(),
                         .checksum = from.checksum.load()};
    fill(*to, key, value, from.owner.load(),
         static_cast<RamSlot::Status>(from.state.load() & 0xFF));
  }
  head_->filled = kept;
  head_->table.store(table_.word, std::memory_order_release);
  ::munmap(old.slots, old.count() * sizeof(RamSlot));
  // Who is reading the old one finds empty slots from here on: a miss, and the next look is right.
  take_memory(descriptor(), (old.word >> 8) * kPage, old.count() * sizeof(RamSlot));
  return true;
}

bool RamSegment::fits(std::uint64_t bytes) const {
  return head_->byte_limit == 0 ||
         static_cast<std::uint64_t>(this->bytes()) + bytes <= head_->byte_limit;
}

/// Under the lock: among the chunk made last and some before it, the one that `size` bytes fill
/// best; chunk_count() where they fit in none.
std::uint32_t RamSegment::find_open(std::uint64_t size) const {
  constexpr std::uint64_t kLookedAt = 16;
  const std::uint64_t current = head_->current.load();
  std::uint32_t best = chunk_count();
  std::uint64_t best_room = ~std::uint64_t{0};
  if (current >= chunk_count()) return best;
  for (std::uint64_t i = current; i + kLookedAt > current && i < chunk_count(); --i) {
    if (state_of(chunks_[i].life.load()) != RamChunkRecord::kLive) continue;
    const std::uint64_t room = chunks_[i].size.load() - chunks_[i].used.load();
    if (room < size || room >= best_room) continue;
    best = static_cast<std::uint32_t>(i);
    best_room = room;
  }
  return best;
}

/// Under the lock.
bool RamSegment::allocate(std::uint64_t length, const Pay& pay, RamValue& value) {
  const std::uint64_t rounded = round_up(std::max<std::uint64_t>(length, 1), 64);
  auto number = find_open(rounded);
  // A chunk that values of this size fill without a rest; near the limit a smaller one.
  for (auto count = std::max<std::uint64_t>(1, head_->chunk_bytes / rounded);
       number == chunk_count(); count /= 2) {
    if (count == 0) return false;
    if (make_chunk(round_up(count * rounded, kPage), pay, number))
      head_->current = number;
    else
      number = chunk_count();
  }
  RamChunkRecord& chunk = chunks_[number];
  value.chunk = number;
  value.generation = static_cast<std::uint32_t>(generation_of(chunk.life.load()));
  value.offset = chunk.offset.load() + chunk.used.fetch_add(rounded);
  value.length = length;
  return true;
}

/// Under the lock: who dies while making one leaves a record that says so.
bool RamSegment::make_chunk(std::uint64_t size, const Pay& pay, std::uint32_t& number) {
  sweep_locked();
  if (!fits(size)) return false;
  for (number = 0; number < chunk_count(); ++number)
    if (state_of(chunks_[number].life.load()) == RamChunkRecord::kFree) break;
  if (number == chunk_count() || !pay(static_cast<std::int64_t>(size))) return false;
  RamChunkRecord& chunk = chunks_[number];
  const std::uint64_t generation = generation_of(chunk.life.load()) + 1;
  const std::uint64_t offset = head_->file_end.load();
  chunk.offset = offset;
  chunk.size = size;
  chunk.used = 0;
  chunk.entries = 0;
  chunk.users = 0;
  chunk.life = life_of(generation, RamChunkRecord::kMaking);
  head_->file_end = offset + size;
  if (!give_memory(descriptor(), offset, size)) {
    take_memory(descriptor(), offset, size);
    chunk.life = life_of(generation, RamChunkRecord::kFree);
    return false;
  }
  chunk.life = life_of(generation, RamChunkRecord::kLive);
  return true;
}

std::uint64_t RamSegment::living_mask() const {
  std::uint64_t mask = std::uint64_t{1} << place_;
  for (std::uint32_t i = 0; i < RamHead::kProcesses; ++i)
    if (i != place_ && head_->epochs[i].load() != 0 &&
        byte_is_locked(share_->memory(), kPlaceByte + i))
      mask |= std::uint64_t{1} << i;
  return mask;
}

void RamSegment::sweep() {
  const Lock lock(*this);
  if (lock) sweep_locked();
}

void RamSegment::sweep_locked() {
  std::uint64_t living = 0;
  for (std::uint32_t i = 0; i < chunk_count(); ++i) {
    RamChunkRecord& chunk = chunks_[i];
    const std::uint64_t life = chunk.life.load();
    if (life == 0) break;  // records are used from the first on
    const std::uint64_t state = state_of(life);
    if (state != RamChunkRecord::kMaking && state != RamChunkRecord::kRetiring) continue;
    if (living == 0) living = living_mask();
    if (state == RamChunkRecord::kRetiring && (chunk.users.load() & living) != 0) continue;
    take_memory(descriptor(), chunk.offset.load(), chunk.size.load());
    chunk.life = life_of(generation_of(life), RamChunkRecord::kFree);
  }
}

std::int64_t RamSegment::retire(std::int64_t bytes) {
  const Lock lock(*this);
  if (!lock) return 0;
  std::int64_t marked = 0;
  for (std::uint32_t i = chunk_count(); i-- > 0 && marked < bytes;) {
    RamChunkRecord& chunk = chunks_[i];
    const std::uint64_t life = chunk.life.load();
    if (state_of(life) != RamChunkRecord::kLive) continue;
    chunk.life = life_of(generation_of(life), RamChunkRecord::kRetiring);
    marked += static_cast<std::int64_t>(chunk.size.load());
    if (head_->current.load() == i) head_->current = chunk_count();
  }
  if (marked > 0) head_->retired.fetch_add(1);
  return marked;
}

std::vector<CacheKey> RamSegment::keys() {
  const std::lock_guard lock(mutex_);
  std::vector<CacheKey> all;
  if (!map_table()) return all;
  for (std::uint64_t i = 0; i < table_.count(); ++i) {
    const RamSlot& slot = table_.slots[i];
    if ((slot.state.load() & 0xFF) == RamSlot::kReady && valid(slot))
      all.push_back({slot.key_high.load(), slot.key_low.load()});
  }
  return all;
}

std::int64_t RamSegment::entries() const {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < chunk_count() && chunks_[i].life.load() != 0; ++i)
    if (state_of(chunks_[i].life.load()) == RamChunkRecord::kLive) sum += chunks_[i].entries.load();
  return static_cast<std::int64_t>(sum);
}

int RamSegment::processes() const {
  return __builtin_popcountll(living_mask());
}

std::int64_t RamSegment::index_bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(base_bytes_ + table_.count() * sizeof(RamSlot));
}

}  // namespace brim::detail
