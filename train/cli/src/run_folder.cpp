#include "run_folder.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "brim/cache/error.h"

namespace brim::cli {
namespace fs = std::filesystem;

std::string next_run_folder(const std::string& base) {
  if (!fs::exists(base)) return base;
  for (int number = 2;; ++number) {
    const std::string folder = base + std::to_string(number);
    if (!fs::exists(folder)) return folder;
  }
}

namespace {

/// `folder` and those above it that are not there yet.
std::vector<fs::path> missing_folders(const fs::path& folder) {
  std::vector<fs::path> missing;
  for (fs::path at = fs::absolute(folder).lexically_normal(); !fs::exists(at);
       at = at.parent_path())
    missing.push_back(at);
  return missing;
}

void prove_writable(const std::string& folder) {
  const std::string probe = folder + "/.writable";
  errno = 0;
  std::ofstream(probe) << "brim\n";
  if (!fs::exists(probe)) {
    throw Error(std::string("cannot write in the run folder: ") + std::strerror(errno),
                {.file = folder}, "choose another with --output DIR");
  }
  std::error_code ignored;
  fs::remove(probe, ignored);
}

}  // namespace

RunFolder::RunFolder(const OutputSettings& output, const std::string& base)
    : path_(output.dir == "auto" ? next_run_folder(base) : output.dir) {
  try {
    made_ = missing_folders(path_);
    fs::create_directories(path_);
  } catch (const fs::filesystem_error& error) {
    throw Error("cannot make the run folder: " + error.code().message(), {.file = path_},
                "choose another with --output DIR");
  }
  prove_writable(path_);
}

RunFolder::~RunFolder() {
  std::error_code ignored;
  if (!made_.empty()) fs::remove_all(made_.front(), ignored);
  for (const fs::path& folder : made_) fs::remove(folder, ignored);  // those that are empty
}

void require_unused(const std::string& folder) {
  for (const char* name : {"last.pt", "best.pt", "results.csv"})
    if (fs::exists(fs::path(folder) / name))
      throw Error(
          "the run folder holds a training already", {.file = folder},
          fmt::format("--resume {} goes on with it, --exist-ok writes over it; --output DIR "
                      "takes another folder",
                      folder));
}

void remove_results(const std::string& folder) {
  std::error_code ignored;
  for (const char* name : {"last.pt", "best.pt", "quarantine.tsv"})
    fs::remove(fs::path(folder) / name, ignored);
}

std::string newest_checkpoint(const std::string& runs) {
  std::string newest;
  fs::file_time_type newest_time{};
  std::error_code error;
  for (fs::recursive_directory_iterator it(runs, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename() != "last.pt") continue;
    const auto time = it->last_write_time(error);
    if (newest.empty() || time > newest_time) {
      newest = it->path().string();
      newest_time = time;
    }
  }
  if (newest.empty()) {
    throw Error("no last.pt to resume from", {.file = runs},
                "name the checkpoint: --resume runs/train/exp/last.pt");
  }
  return newest;
}

}  // namespace brim::cli
