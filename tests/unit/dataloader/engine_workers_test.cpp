#include "dataloader/src/engine_workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace brim::detail {
namespace {

using namespace std::chrono_literals;

struct Calls {
  std::atomic<int> begun{0}, ended{0};
  std::atomic<bool> may_end{false};
};

void wait_until_allowed(void* argument) {
  auto& calls = *static_cast<Calls*>(argument);
  ++calls.begun;
  while (!calls.may_end) std::this_thread::sleep_for(100us);
  ++calls.ended;
}

TEST(Workers, MakeEveryCallOnce) {
  Calls calls;
  calls.may_end = true;
  Workers workers(3, 1);
  for (int i = 0; i < 100; ++i) workers.enqueue(wait_until_allowed, &calls);
  while (calls.ended < 100) std::this_thread::yield();
  std::this_thread::sleep_for(1ms);
  EXPECT_EQ(calls.begun, 100);
}

TEST(Workers, WaitForCallsThatHaveBegunAndDropTheOthers) {
  Calls calls;
  std::thread user;
  {
    Workers workers(1, 0);
    for (int i = 0; i < 20; ++i) workers.enqueue(wait_until_allowed, &calls);
    while (calls.begun == 0) std::this_thread::yield();
    user = std::thread([&] {
      std::this_thread::sleep_for(5ms);
      calls.may_end = true;
    });
  }
  const int begun = calls.begun;
  EXPECT_GE(begun, 1);
  EXPECT_EQ(calls.ended, begun);
  user.join();
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(calls.begun, begun) << "a call was made after the workers were gone";
}

}  // namespace
}  // namespace brim::detail
