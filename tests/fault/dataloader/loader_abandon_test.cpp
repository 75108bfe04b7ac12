// A consumer may stop reading, throw or destroy the loader at any moment.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "brim/dataloader/loader.h"
#include "support/fake_data.h"
#include "support/jpeg.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void spin(std::int64_t microseconds) {
  const auto end = Clock::now() + std::chrono::microseconds(microseconds);
  while (Clock::now() < end) {
  }
}

/// Time in which the machine ran nothing of this process: it was stopped, or others had every
/// processor. A thread of the workers' priority sleeps in short naps and counts what they take too
/// long.
class Heartbeat {
 public:
  Heartbeat() : last_(Clock::now()), thread_([this](const std::stop_token& stop) { beat(stop); }) {}

  double missed_seconds() const {
    const std::lock_guard lock(mutex_);
    return missed_ + std::max(0.0, seconds_since(last_) - kNap);
  }

 private:
  static constexpr double kNap = 0.02;  ///< a nap of 2 ms that took no longer is none missed

  void beat(const std::stop_token& stop) {
    ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + LoaderOptions{}.niceness);
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const std::lock_guard lock(mutex_);
      missed_ += std::max(0.0, seconds_since(last_) - kNap);
      last_ = Clock::now();
    }
  }

  mutable std::mutex mutex_;
  Clock::time_point last_;
  double missed_ = 0;
  std::jthread thread_;
};

/// Remembers the longest call, in time that the machine had for this process.
class Stopwatch {
 public:
  template <class Call>
  decltype(auto) time(Call&& call) {
    static const Heartbeat heartbeat;
    struct Lap {
      Stopwatch& watch;
      double missed = heartbeat.missed_seconds();
      Clock::time_point begin = Clock::now();
      ~Lap() {
        const double took = seconds_since(begin) - (heartbeat.missed_seconds() - missed);
        watch.longest_ = std::max(watch.longest_, took);
      }
    } lap{*this};
    return call();
  }
  double longest() const { return longest_; }

 private:
  double longest_ = 0;
};

/// Reads some batches of an epoch and keeps a few of them; a failing transform ends it.
void read_some(Loader& loader, Generator& g, std::vector<Batch>& kept, Stopwatch& watch) {
  try {
    for (std::uint64_t reads = g.below(12); reads > 0; --reads) {
      std::optional<Batch> batch = watch.time([&] { return loader.next(); });
      if (!batch) break;
      if (g.chance(0.3)) kept.push_back(std::move(*batch));
    }
  } catch (const std::runtime_error&) {
  }
}

/// One random life of a loader; returns the longest that any single call took.
double abandon(std::uint64_t seed) {
  Generator g(seed, Purpose::User);
  const std::int64_t work = static_cast<std::int64_t>(g.below(200));
  const bool throws = g.chance(0.2);
  auto transform = std::make_shared<test::MixTransform>(test::MixTransform::Settings{
      .partners = static_cast<int>(g.below(4)), .on_apply = [=](const Recipe& recipe) {
        spin(work);
        if (throws && recipe.key % 64 == 0) throw std::runtime_error("a transform failed");
      }});
  auto dataset = std::make_shared<test::MemoryDataset>(
      test::MemoryDataset::Settings{.size = 1 + static_cast<std::int64_t>(g.below(200))});
  LoaderOptions options{.batch_size = 1 + static_cast<std::int64_t>(g.below(16)),
                        .workers = static_cast<int>(g.below(5)),
                        .seed = seed};
  std::vector<Batch> kept;
  std::thread stopper;
  Stopwatch watch, stop_watch;
  auto loader = std::make_unique<Loader>(dataset, transform, options);
  for (std::uint64_t starts = 1 + g.below(3); starts > 0; --starts) {
    const auto epoch = static_cast<std::int64_t>(g.below(3));
    watch.time([&] { loader->start(epoch); });
    if (g.chance(0.3) && !stopper.joinable()) {
      stopper = std::thread([&, pause = static_cast<std::int64_t>(g.below(500))] {
        spin(pause);
        stop_watch.time([&] { loader->stop(); });
      });
    }
    read_some(*loader, g, kept, watch);
  }
  spin(static_cast<std::int64_t>(g.below(300)));
  if (stopper.joinable()) stopper.join();
  watch.time([&] { loader.reset(); });
  for (const Batch& batch : kept) batch.digest();
  return std::max(watch.longest(), stop_watch.longest());
}

TEST(LoaderAbandonment, NeverHangsAtAThousandRandomMoments) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    ASSERT_LT(abandon(seed), 1.0) << "seed " << seed;
  }
}

/// A picture whose decode takes long, from few pixels to make.
test::ByteVector large_jpeg(bool progressive) {
  const Image tile = test::make_picture(1000, 50, 1);
  Image picture;
  picture.resize(2000, 1500);
  const MutableImageView to = picture.mutable_view();
  for (int y = 0; y < picture.height(); ++y) {
    for (int x = 0; x < picture.width(); x += tile.width()) {
      std::memcpy(to.row(y) + 3 * x, tile.view().row(y % tile.height()), 3 * std::size_t{1000});
    }
  }
  return test::encode_jpeg(picture.view(), {.quality = 95, .progressive = progressive});
}

TEST(LoaderAbandonment, DoesNotWaitForALargePicture) {
  for (const bool progressive : {false, true}) {
    auto dataset = std::make_shared<test::MemoryDataset>(
        test::MemoryDataset::Settings{.size = 4},
        std::vector<test::ByteVector>(4, large_jpeg(progressive)));
    Loader loader(dataset, std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
                  {.batch_size = 4, .workers = 2, .niceness = 0});
    auto begin = Clock::now();
    loader.start(0);
    ASSERT_TRUE(loader.next().has_value());
    const double whole = seconds_since(begin) / 2;  // two pictures each
    std::vector<double> stops;
    for (int i = 0; i < 9; ++i) {
      loader.start(i);
      spin(static_cast<std::int64_t>(whole * 1e6 * (1 + i) / 20));
      begin = Clock::now();
      loader.stop();
      stops.push_back(seconds_since(begin));
    }
    std::sort(stops.begin(), stops.end());
    EXPECT_LT(stops[4], whole / 8) << (progressive ? "progressive" : "baseline");
  }
}

TEST(LoaderAbandonment, ABatchOutlivesItsLoaderInAnotherThread) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::thread user;
    {
      Loader loader(
          std::make_shared<test::MemoryDataset>(test::MemoryDataset::Settings{.size = 64}),
          std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
          {.batch_size = 4, .workers = 2});
      loader.start(0);
      Batch batch = *loader.next();
      user = std::thread([digest = batch.digest(), held = std::move(batch), seed]() mutable {
        spin(100);
        EXPECT_EQ(held.digest(), digest) << "seed " << seed;
        held = Batch();
      });
      for (int i = 0; i < 5; ++i) loader.next();
    }
    user.join();
  }
}

}  // namespace
}  // namespace brim
