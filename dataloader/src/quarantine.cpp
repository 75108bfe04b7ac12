#include "quarantine.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

constexpr const char* kHeader = "index\tpath\treason\treplacement\n";
constexpr std::int64_t kAlwaysTolerated = 4;  ///< so that a small set survives a bad file
constexpr std::int64_t kFewestCounted = 1000;

std::string one_field(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\t' || c == '\n' || c == '\r'; }, ' ');
  return text;
}

}  // namespace

Quarantine::Quarantine(std::string file, std::int64_t dataset_size, double max_bad_fraction)
    : file_(std::move(file)), dataset_size_(dataset_size), max_bad_fraction_(max_bad_fraction) {
  if (!file_.empty()) read_listed();
}

void Quarantine::read_listed() {
  std::ifstream in(file_);
  std::string line;
  while (std::getline(in, line)) {
    const std::size_t begin = line.find('\t');
    const std::size_t end = begin == std::string::npos ? begin : line.find('\t', begin + 1);
    if (end != std::string::npos) listed_.insert(line.substr(begin + 1, end - begin - 1));
  }
}

bool Quarantine::contains(std::int64_t index) const {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::lock_guard lock(mutex_);
  return by_index_.contains(index);
}

void Quarantine::list(std::span<const QuarantineEntry> entries) {
  const std::lock_guard lock(mutex_);
  for (const QuarantineEntry& entry : entries) append_new(entry);
}

void Quarantine::add(const QuarantineEntry& entry) {
  const std::lock_guard lock(mutex_);
  if (!by_index_.emplace(entry.index, entries_.size()).second) return;
  entries_.push_back(entry);
  count_.fetch_add(1, std::memory_order_release);
  append_new(entry);
}

/// Others may have written to the file as well.
void Quarantine::append_new(const QuarantineEntry& entry) {
  if (file_.empty() || listed_.contains(one_field(entry.path))) return;
  read_listed();
  if (listed_.insert(one_field(entry.path)).second) append(entry);
}

void Quarantine::append(const QuarantineEntry& entry) {
  const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  std::string text = ::lseek(fd, 0, SEEK_END) == 0 ? kHeader : "";
  text += std::to_string(entry.index) + "\t" + one_field(entry.path) + "\t" +
          one_field(entry.reason) + "\t" + std::to_string(entry.replacement) + "\n";
  // One write per row, so that rows of several processes do not mix.
  [[maybe_unused]] const ssize_t written = ::write(fd, text.data(), text.size());
  ::close(fd);
}

void Quarantine::count_sample() {
  samples_.fetch_add(1, std::memory_order_relaxed);
  if (bad_count() > 0) check_rate();
}

void Quarantine::check_rate() const {
  const std::int64_t bad = bad_count();
  const std::int64_t least = std::min(dataset_size_, kFewestCounted);
  const std::int64_t seen =
      std::clamp(samples_.load(std::memory_order_relaxed), least, std::max(dataset_size_, least));
  const double share = max_bad_fraction_ * static_cast<double>(seen);
  const bool strict = max_bad_fraction_ <= 0;
  const double tolerated =
      strict ? 0
             : std::max(share, static_cast<double>(std::min(kAlwaysTolerated, dataset_size_ / 2)));
  if (static_cast<double>(bad) <= tolerated) return;
  QuarantineEntry first;
  {
    const std::lock_guard lock(mutex_);
    first = entries_.front();
  }
  throw Error(std::to_string(bad) + " of " + std::to_string(seen) +
                  " samples cannot be read, more than max_bad_fraction allows; the first: " +
                  first.path + ": " + first.reason,
              {.file = file_, .key = "loader.max_bad_fraction"},
              file_.empty() ? "mend or remove the bad files, or raise loader.max_bad_fraction"
                            : "mend or remove the files listed there, or raise "
                              "loader.max_bad_fraction");
}

std::vector<QuarantineEntry> Quarantine::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

}  // namespace brim::detail
