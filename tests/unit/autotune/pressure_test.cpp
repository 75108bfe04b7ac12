#include "brim/autotune/pressure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace brim::autotune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A process of 100 bytes' budget with three measures.
struct Machine {
  std::int64_t used = 0;
  int prefetch = 2;
  std::vector<std::string> done{};
  std::vector<Rung> rungs() {
    return {{0.85, "trim", [this] { return act("trim", 0); }},
            {0.85, "prefetch",
             [this]() -> std::string {
               if (prefetch == 0) return "";
               --prefetch;
               return act("prefetch", 4);
             },
             [this]() -> std::string {
               if (prefetch == 2) return "";
               prefetch = 2;
               return act("prefetch back", 0);
             }},
            {0.95, "parts", [this] { return act("parts", 0); }},
            {1.0, "stop", [this] { return act("stop", 0); }, {}, true}};
  }
  std::string act(const std::string& name, std::int64_t gain) {
    used -= gain;
    done.push_back(name);
    return name + " done";
  }
};

PressureLadder ladder(Machine& machine) {
  return {[&] { return machine.used; },
          [] { return std::int64_t{100}; },
          machine.rungs(),
          {.settle_checks = 0, .calm_checks = 3, .calm_below = 0.7}};
}

TEST(PressureLadder, DoesNothingBelowTheFirstRung) {
  Machine machine{.used = 84};
  PressureLadder ladder_of = ladder(machine);
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(ladder_of.check());
}

TEST(PressureLadder, ClimbsOneRungAtATimeAndCountsThem) {
  Machine machine{.used = 86};
  PressureLadder ladder_of = ladder(machine);
  const auto first = ladder_of.check();
  ASSERT_TRUE(first);
  EXPECT_THAT(first->message, HasSubstr("86%"));
  EXPECT_THAT(first->message, HasSubstr("trim done"));
  ladder_of.check();
  EXPECT_FALSE(ladder_of.check());  // 82 bytes are left
  EXPECT_THAT(machine.done, ElementsAre("trim", "prefetch"));
  EXPECT_EQ(ladder_of.counts().at("trim"), 1);
}

TEST(PressureLadder, HigherRungsWaitForTheirShare) {
  Machine machine{.used = 97, .prefetch = 0};
  PressureLadder ladder_of = ladder(machine);
  ladder_of.check();
  ladder_of.check();
  EXPECT_THAT(machine.done, ElementsAre("trim", "parts"));
}

TEST(PressureLadder, TheLastResortComesWhenNothingElseIsLeft) {
  Machine machine{.used = 120, .prefetch = 1};
  auto rungs = machine.rungs();
  rungs[0].climb = [] { return std::string(); };
  rungs[2].climb = [] { return std::string(); };
  PressureLadder ladder_of([&] { return machine.used; }, [] { return std::int64_t{100}; }, rungs,
                           {.settle_checks = 0});
  ladder_of.check();
  EXPECT_THAT(machine.done, ElementsAre("prefetch"));
  ladder_of.check();
  EXPECT_THAT(machine.done, ElementsAre("prefetch", "stop"));
}

TEST(PressureLadder, TakesARungBackAfterACalmWhile) {
  Machine machine{.used = 90};
  PressureLadder ladder_of = ladder(machine);
  ladder_of.check();
  ladder_of.check();
  machine.used = 50;
  std::vector<std::string> events;
  for (int i = 0; i < 10; ++i) {
    if (const auto event = ladder_of.check()) {
      EXPECT_TRUE(event->relieved);
      events.push_back(event->rung);
    }
  }
  EXPECT_THAT(events, ElementsAre("prefetch"));
}

TEST(PressureLadder, GivesARungTimeToShowItsEffect) {
  Machine machine{.used = 90, .prefetch = 0};
  PressureLadder ladder_of([&] { return machine.used; }, [] { return std::int64_t{100}; },
                           machine.rungs(), {.settle_checks = 2});
  EXPECT_TRUE(ladder_of.check());
  EXPECT_FALSE(ladder_of.check());
  EXPECT_FALSE(ladder_of.check());
  EXPECT_TRUE(ladder_of.check());
}

TEST(RungShares, StayAboveWhatThePlanMeansToFill) {
  EXPECT_THAT(rung_shares(), ElementsAre(0.85, ::testing::DoubleNear(0.90, 1e-9),
                                         ::testing::DoubleNear(0.95, 1e-9)));
  const auto shares = rung_shares(0.95);
  EXPECT_NEAR(shares[0], 0.97, 1e-9);
  EXPECT_LT(shares[2], 1.0);
}

}  // namespace
}  // namespace brim::autotune
