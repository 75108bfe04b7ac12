#include "cache_uses.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"

namespace brim::cli {
namespace fs = std::filesystem;
namespace {

std::string folder_of(const std::string& directory) {
  return directory + "/uses";
}

CacheUse read_use(const fs::path& path) {
  std::ifstream in(path);
  CacheUse use;
  std::getline(in, use.data);
  std::getline(in, use.split);
  std::getline(in, use.recipe);
  return use;
}

std::int64_t days_old(const fs::path& path) {
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  if (error) return 0;
  const auto age = fs::file_time_type::clock::now() - written;
  return std::chrono::duration_cast<std::chrono::hours>(age).count() / 24;
}

void add_keys(const CacheUse& use, const std::string& index_directory,
              std::unordered_set<CacheKey>& keys) {
  DatasetOptions options;
  options.split = parse_split(use.split);
  options.index_directory = index_directory;
  const auto data = open_dataset(use.data, options);
  RecordScratch scratch;
  for (std::int64_t i = 0; i < data->size(); ++i)
    keys.insert(make_cache_key(data->record(i, scratch).source, use.recipe));
}

}  // namespace

void note_cache_use(const std::string& directory, const CacheUse& use) {
  const std::string text = use.data + "\n" + use.split + "\n" + use.recipe + "\n";
  const std::uint64_t name = make_cache_key({.path = text}, "use").low;
  // A folder that cannot be written to is the store's to complain of.
  std::error_code ignored;
  fs::create_directories(folder_of(directory), ignored);
  std::ofstream(folder_of(directory) + fmt::format("/{:016x}.use", name)) << text;
}

namespace {

std::vector<fs::path> notes_in(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator at(folder_of(directory), error), end; !error && at != end;
       at.increment(error))
    if (at->path().extension() == ".use") files.push_back(at->path());
  return files;
}

}  // namespace

WantedEntries wanted_entries(const std::string& directory, const std::string& index_directory,
                             std::int64_t most_days) {
  WantedEntries wanted;
  for (const fs::path& file : notes_in(directory)) {
    ++wanted.uses;
    const CacheUse use = read_use(file);
    bool there = most_days <= 0 || days_old(file) <= most_days;
    try {
      if (there) add_keys(use, index_directory, wanted.keys);
    } catch (const Error&) {
      there = false;
    }
    if (there) continue;
    wanted.gone.push_back(use.data);
    wanted.gone_notes.push_back(file.string());
  }
  return wanted;
}

EntriesOfData entries_of(const std::string& directory, const std::string& index_directory,
                         const std::string& data) {
  EntriesOfData own;
  std::unordered_set<CacheKey> of_others;
  for (const fs::path& file : notes_in(directory)) {
    const CacheUse use = read_use(file);
    if (use.data == data) {
      add_keys(use, index_directory, own.keys);
      own.notes.push_back(file.string());
      continue;
    }
    try {
      add_keys(use, index_directory, of_others);
    } catch (const Error&) {
      continue;  // absent data asks for nothing
    }
  }
  for (const CacheKey& key : of_others) own.keys.erase(key);
  return own;
}

void forget(const std::vector<std::string>& notes) {
  std::error_code ignored;
  for (const std::string& note : notes) fs::remove(note, ignored);
}

}  // namespace brim::cli
