#include "run_observers.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

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
  if (folder_ != nullptr) folder_->keep();
}

void SharedQuarantine::on_epoch(const EpochEvent& /*event*/) {
  collect();
}

void SharedQuarantine::collect() {
  if (group_.size() == 1) return;
  nlohmann::json own = nlohmann::json::array();
  for (const QuarantineEntry& e : source_.quarantine())
    own.push_back({e.index, e.path, e.reason, e.replacement});
  const auto all =
      gather_text(group_, own.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  if (group_.rank() != 0) return;
  met_.clear();
  for (const std::string& text : all)
    for (const auto& e : nlohmann::json::parse(text)) met_.push_back({e[0], e[1], e[2], e[3]});
  list_bad_files(file_, met_);
}

}  // namespace brim::cli
