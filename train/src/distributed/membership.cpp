#include "membership.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>

namespace brim::detail {
namespace {

using std::chrono::milliseconds;
constexpr const char* kLeft = "left";

c10::intrusive_ptr<c10d::Store> open_store(const RankPlace& place, bool serve,
                                           milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(place.port);
  options.isServer = serve;
  options.waitWorkers = false;
  options.timeout = std::chrono::ceil<std::chrono::seconds>(timeout);  // it counts whole seconds
  return c10::make_intrusive<c10d::TCPStore>(place.address, options);
}

std::string meeting_point(const RankPlace& place) {
  return place.address + ":" + std::to_string(place.port);
}

[[noreturn]] void no_meeting(const RankPlace& place, bool serving, const std::exception& error) {
  const std::string text = error.what();
  const auto says = [&](const char* words) { return text.find(words) != std::string::npos; };
  if (serving && (says("EADDRINUSE") || says("in use") || says("failed to listen")))
    throw Error("port " + std::to_string(place.port) + " is taken by another program",
                {.key = "MASTER_PORT"}, "choose another with MASTER_PORT or brim launch --port");
  throw Error("rank " + std::to_string(place.rank) + " cannot reach rank 0 at " +
                  meeting_point(place) + ": " + text.substr(0, text.find('\n')),
              {.key = "MASTER_ADDR"},
              "start rank 0 too, and check MASTER_ADDR, MASTER_PORT and firewalls");
}

std::string here_key(int rank) {
  return "brim/here/" + std::to_string(rank);
}
std::string beat_key(int rank) {
  return "brim/beat/" + std::to_string(rank);
}

std::vector<std::uint8_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

}  // namespace

void throw_rank_error(int rank, const std::exception& error) {
  if (dynamic_cast<const Error*>(&error) != nullptr) throw;
  const std::string text = error.what();
  throw Error("rank " + std::to_string(rank) + ": another rank has ended or cannot be reached: " +
                  text.substr(0, text.find('\n')),
              {}, "the first error among the messages of the other ranks says why");
}

c10::intrusive_ptr<c10d::Store> meet(const RankPlace& place, const ConnectOptions& options) {
  const bool serving = place.rank == 0 && !place.store_is_there;
  c10::intrusive_ptr<c10d::Store> store;
  try {
    store = open_store(place, serving, options.meet_timeout);
  } catch (const std::exception& error) {
    no_meeting(place, serving, error);
  }
  std::vector<std::string> keys;
  for (int r = 0; r < place.size; ++r) keys.push_back(here_key(r));
  try {
    store->set(here_key(place.rank), bytes("here"));
    store->wait(keys, options.meet_timeout);
  } catch (const std::exception&) {
    std::string missing;
    for (int r = 0; r < place.size; ++r) {
      bool here = true;
      try {
        here = store->check({here_key(r)});
      } catch (const std::exception&) {
        here = false;
      }
      if (!here) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    }
    throw Error("rank " + std::to_string(place.rank) + ": of " + std::to_string(place.size) +
                    " ranks not all came to " + meeting_point(place) + " within " +
                    std::to_string(options.meet_timeout.count() / 1000) + " s; missing: " + missing,
                {.key = "WORLD_SIZE"}, "start every rank with the same WORLD_SIZE and MASTER_ADDR");
  }
  return store;
}

Heartbeat::Heartbeat(const RankPlace& place, const ConnectOptions& options)
    : place_(place), options_(options) {
  try {
    store_ = open_store(place, false, options.silence_timeout);
  } catch (const std::exception& error) {
    no_meeting(place, false, error);
  }
  thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() {
  leave();
}

void Heartbeat::leave() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

/// False when it is over.
bool Heartbeat::sleep() {
  std::unique_lock lock(mutex_);
  const milliseconds pause =
      std::clamp(options_.silence_timeout / 8, milliseconds(50), milliseconds(5'000));
  return !changed_.wait_for(lock, pause, [this] { return over_; });
}

/// Gives a sign of life; returns what is wrong with the others.
std::string Heartbeat::look(c10d::Store& store) {
  store.set(beat_key(place_.rank), bytes(std::to_string(++beats_)));
  const auto now = Clock::now();
  // This rank stood still itself, as all do when a machine or a job is suspended.
  const bool suspended =
      looked_ != Clock::time_point() && now - looked_ > options_.silence_timeout / 2;
  looked_ = now;
  for (int r = 0; r < place_.size; ++r) {
    if (r == place_.rank) continue;
    Seen& seen = seen_.try_emplace(r, Seen{"", now}).first->second;
    std::string beat;
    if (store.check({beat_key(r)})) {
      const std::vector<std::uint8_t> value = store.get(beat_key(r));
      beat.assign(value.begin(), value.end());
    }
    if (beat != seen.beat || beat == kLeft || suspended) seen = {beat, now};
    if (now - seen.at > options_.silence_timeout)
      return "rank " + std::to_string(r) + " has given no sign of life for " +
             std::to_string(options_.silence_timeout.count() / 1000) + " s";
  }
  return "";
}

void Heartbeat::run() {
  std::string wrong;
  try {
    do {
      wrong = look(*store_);
    } while (wrong.empty() && sleep());
    if (wrong.empty()) store_->set(beat_key(place_.rank), bytes(kLeft));
  } catch (const std::exception&) {
    wrong = "rank 0, which serves the meeting point " + meeting_point(place_) + ", is gone";
  }
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
  }
  if (!wrong.empty() && options_.on_failure) options_.on_failure(wrong);
}

}  // namespace brim::detail
