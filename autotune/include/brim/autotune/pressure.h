#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace brim::autotune {

/// One thing that can be done when memory runs short.
struct Rung {
  double at = 0.85;  ///< share of the budget from which it is done
  std::string name;  ///< "trim", "prefetch", ...
  /// Does it; says what was done, or empty where there was nothing left to do.
  std::function<std::string()> climb;
  /// Takes it back when memory has been free for long; empty: it stays.
  std::function<std::string()> descend{};
  bool last_resort = false;  ///< done only when no other rung has anything left to do
};

/// Shares at which three grades of rungs begin: 0.85, 0.90, 0.95, or, for a run that is planned to
/// fill `planned_share` of its budget, as far apart between that and all of it.
std::vector<double> rung_shares(double planned_share = 0);

struct PressureOptions {
  std::int64_t settle_checks = 3;  ///< checks that a rung is given to show its effect
  std::int64_t calm_checks = 200;  ///< below `calm_below` before the last rung is taken back
  double calm_below = 0.70;
};

/// What was done about the memory, in words for the user.
struct PressureEvent {
  std::string rung;
  bool relieved = false;  ///< a rung was taken back
  double share = 0;       ///< of the budget, before
  std::string message;
};

/// A ladder of measures that is climbed one rung at a time while memory stays short, cheapest
/// first, and descended when it has been free for long. Asked between two training steps; one
/// thread. Everything it does is told and counted.
///
///   PressureLadder ladder([&] { return resident_bytes(); }, [&] { return budget->limit(); },
///                         {{.at = 0.85, .name = "trim", .climb = trim}, ...});
///   if (const auto event = ladder.check()) log(event->message);
class PressureLadder {
 public:
  using Bytes = std::function<std::int64_t()>;
  PressureLadder(Bytes used, Bytes limit, std::vector<Rung> rungs,
                 const PressureOptions& options = {});

  std::optional<PressureEvent> check();
  /// How often each rung was climbed.
  const std::map<std::string, std::int64_t>& counts() const { return counts_; }
  double highest_share() const { return highest_share_; }

 private:
  std::optional<PressureEvent> climb(double share);
  std::optional<PressureEvent> descend(double share);

  Bytes used_, limit_;
  std::vector<Rung> rungs_;
  PressureOptions options_;
  std::vector<std::size_t> climbed_;  // rungs that can be taken back, in order
  std::map<std::string, std::int64_t> counts_;
  std::int64_t waiting_ = 0, calm_ = 0;
  std::size_t next_ = 0;
  double highest_share_ = 0;
};

}  // namespace brim::autotune
