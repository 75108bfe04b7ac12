#include "brim/autotune/memory_model.h"

#include <algorithm>
#include <cmath>

namespace brim::autotune {
namespace {

/// Allocations and frees at the same places. Which of several blocks is freed first may differ:
/// autocast keeps its copies of weights in the order of their addresses.
bool same_shape(const AllocationTrace& a, const AllocationTrace& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](auto x, auto y) { return (x > 0) == (y > 0); });
}

/// `trace` where a block that is given back at once is not asked for twice in a row: a kernel that
/// goes over the samples one by one takes its scratch memory once for each.
AllocationTrace without_repeats(const AllocationTrace& trace) {
  AllocationTrace result;
  std::vector<std::int64_t> number;  // in the result, of each allocation
  std::int64_t kept = 0;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (trace[i] <= 0) {
      result.push_back(-number.at(static_cast<std::size_t>(-trace[i] - 1)) - 1);
      continue;
    }
    const std::size_t end = result.size();
    const auto own = static_cast<std::int64_t>(number.size());
    const bool given_back = i + 1 < trace.size() && trace[i + 1] == -own - 1;
    if (given_back && end >= 2 && result[end - 2] == trace[i] && result[end - 1] == -kept) {
      number.push_back(kept - 1);
      ++i;
      continue;
    }
    number.push_back(kept++);
    result.push_back(trace[i]);
  }
  return result;
}

/// Through the two largest batches: what small ones lose to rounding is no part of the slope.
AffineFit line_through(std::vector<Measurement> measured) {
  std::sort(measured.begin(), measured.end(),
            [](const Measurement& a, const Measurement& b) { return a.batch > b.batch; });
  if (measured.size() > 2) measured.resize(2);
  std::vector<double> batches, bytes;
  for (const Measurement& m : measured) {
    batches.push_back(static_cast<double>(m.batch));
    bytes.push_back(static_cast<double>(m.resident_peak_bytes));
  }
  AffineFit line = fit_affine(batches, bytes);
  line.slope = std::max(line.slope, 1.0);
  return line;
}

}  // namespace

MemoryModel::MemoryModel(const std::vector<Measurement>& measured) : line_(line_through(measured)) {
  join_traces(measured);
  for (const Measurement& m : measured) {
    const auto bytes = static_cast<double>(m.resident_peak_bytes);
    if (measured.size() > 1 && bytes > 0)
      relative_error_ = std::max(relative_error_, std::abs(at(m.batch) / bytes - 1));
  }
}

/// The two largest batches decide: the last event of a smaller one says least about larger ones.
void MemoryModel::join_traces(const std::vector<Measurement>& measured) {
  std::vector<const Measurement*> order;
  for (const Measurement& m : measured)
    if (!m.trace.empty()) order.push_back(&m);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->batch > b->batch; });
  if (order.size() < 2) return;
  if (order[0]->batch == order[1]->batch) return;
  const AllocationTrace large = without_repeats(order[0]->trace);
  const AllocationTrace small = without_repeats(order[1]->trace);
  if (!same_shape(large, small)) return;
  const auto span = static_cast<double>(order[0]->batch - order[1]->batch);
  for (std::size_t i = 0; i < large.size(); ++i) {
    if (large[i] < 0) {
      events_.push_back({static_cast<double>(large[i]), 0});
      continue;
    }
    const auto more = static_cast<double>(large[i]), less = static_cast<double>(small[i]);
    const double slope = (more - less) / span;
    events_.push_back({less - slope * static_cast<double>(order[1]->batch), slope});
  }
  for (const Measurement* m : {order[0], order[1]}) {
    const auto reserved = static_cast<double>(replay_allocations(m->trace).reserved);
    if (reserved == 0) return events_.clear();
    outside_ = std::max(outside_, static_cast<double>(m->resident_peak_bytes) - reserved);
  }
}

ReplayedPeaks MemoryModel::replayed(std::int64_t batch) const {
  AllocationTrace trace;
  trace.reserve(events_.size());
  for (const Sizes& event : events_) {
    const double bytes = event.constant + event.slope * static_cast<double>(batch);
    const bool is_free = event.slope == 0 && event.constant < 0;
    trace.push_back(std::llround(is_free ? bytes : std::max(bytes, 1.0)));
  }
  return replay_allocations(trace);
}

double MemoryModel::at(std::int64_t batch) const {
  if (!replays()) return line_.at(static_cast<double>(batch));
  const auto known = known_.find(batch);
  if (known != known_.end()) return known->second;
  const auto reserved = static_cast<double>(replayed(batch).reserved);
  const double bytes = reserved > 0 ? outside_ + reserved : line_.at(static_cast<double>(batch));
  return known_[batch] = bytes;
}

}  // namespace brim::autotune
