#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace brim::detail {

/// Runs `work(begin, end)` for consecutive blocks of [0, count) on up to `threads` threads and
/// hands the results to `merge` in block order, one at a time. What the lowest failing block threw
/// is rethrown, so a fault is reported the same way whatever the number of threads.
template <class Work, class Merge>
void ordered_blocks(std::int64_t count, std::int64_t block, int threads, Work work, Merge merge) {
  using Result = decltype(work(std::int64_t{}, std::int64_t{}));
  struct Done {
    std::optional<Result> result;
    std::exception_ptr error;
  };
  const std::int64_t blocks = (count + block - 1) / block;
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::map<std::int64_t, Done> waiting;
  std::int64_t merged = 0;
  std::exception_ptr error;

  auto finish = [&](std::int64_t number, Done done) {
    const std::lock_guard lock(mutex);
    waiting.emplace(number, std::move(done));
    for (auto it = waiting.begin(); it != waiting.end() && it->first == merged && !error;
         ++merged) {
      try {
        if (it->second.error) std::rethrow_exception(it->second.error);
        merge(std::move(*it->second.result));
      } catch (...) {
        error = std::current_exception();
        failed = true;
      }
      it = waiting.erase(it);
    }
  };
  auto run = [&] {
    // After a failure no new block starts; those before it were started earlier and still finish.
    while (!failed) {
      const std::int64_t number = next++;
      if (number >= blocks) return;
      Done done;
      try {
        done.result.emplace(work(number * block, std::min(count, (number + 1) * block)));
      } catch (...) {
        done.error = std::current_exception();
        failed = true;
      }
      finish(number, std::move(done));
    }
  };

  std::vector<std::jthread> helpers;
  const std::int64_t wanted = std::min<std::int64_t>(threads, blocks) - 1;
  try {
    for (std::int64_t i = 0; i < wanted; ++i) helpers.emplace_back(run);
  } catch (const std::system_error&) {
    // The system gives no more threads: those that run, and this one, do the work.
  }
  run();
  helpers.clear();
  if (error) std::rethrow_exception(error);
}

}  // namespace brim::detail
