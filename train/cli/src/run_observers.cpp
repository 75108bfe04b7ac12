#include "run_observers.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace brim::cli {

void CacheComplaint::tell() {
  if (cache_ == nullptr) return;
  const StoreStats stats = cache_->stats();
  if (!stats.last_error.empty() && stats.last_error != told_)
    console_.warn(stats.last_error + "; training goes on without what it cannot keep");
  told_ = stats.last_error;
  if (stats.damaged > 0 && !told_of_damage_)
    console_.warn(
        fmt::format("damaged entries of the cache, {} so far, are made anew", stats.damaged));
  told_of_damage_ = told_of_damage_ || stats.damaged > 0;
}

void KeepingFolder::on_step(const StepEvent& /*event*/) {
  if (folder_ == nullptr || std::exchange(kept_, true)) return;
  folder_->keep();
  if (fresh_) remove_results(folder_->path());
}

void BestMark::on_epoch(const EpochEvent& event) {
  if (!event.best || !event.evaluated) return;
  evaluation_.mark_best();
  best_ = event.evaluation;
}

void SharedQuarantine::on_epoch(const EpochEvent& /*event*/) {
  collect();
}

void SharedQuarantine::collect() {
  if (group_.size() == 1) {
    met_ = source_.quarantine();
    return;
  }
  nlohmann::json own = nlohmann::json::array();
  for (const QuarantineEntry& e : source_.quarantine())
    own.push_back({e.index, e.path, e.reason, e.replacement});
  const auto all =
      gather_text(group_, own.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  if (group_.rank() != 0) return;
  std::map<std::string, QuarantineEntry> by_path;
  for (const std::string& text : all) {
    for (const auto& e : nlohmann::json::parse(text)) {
      const QuarantineEntry entry{e[0], e[1], e[2], e[3]};
      by_path.emplace(entry.path, entry);
    }
  }
  met_.clear();
  for (const auto& [path, entry] : by_path) met_.push_back(entry);
  list_bad_files(file_, met_);
}

}  // namespace brim::cli
