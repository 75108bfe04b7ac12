#include "run_folder.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <vector>

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

/// What commands put into a run folder before they have results.
constexpr const char* kBeginnings[] = {".writable",     "config.yaml",    "results.csv",
                                       "metrics.jsonl", "quarantine.tsv", "tune.json",
                                       "labels"};

/// Makes `folder` and those above it; true where it was not there before.
bool make_folder(const fs::path& folder) {
  fs::create_directories(fs::absolute(folder).lexically_normal().parent_path());
  return fs::create_directory(folder);
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

RunFolder::RunFolder(const OutputSettings& output, const std::string& base) : path_(output.dir) {
  try {
    if (output.dir == "auto") {
      do {  // another run may take the same number at the same time
        path_ = next_run_folder(base);
        made_ = make_folder(path_);
      } while (!made_);
    } else {
      made_ = make_folder(path_);
    }
  } catch (const fs::filesystem_error& error) {
    throw Error("cannot make the run folder: " + error.code().message(), {.file = path_},
                "choose another with --output DIR");
  }
  prove_writable(path_);
}

RunFolder::~RunFolder() {
  if (!made_) return;
  std::error_code ignored;
  for (const char* name : kBeginnings) fs::remove(fs::path(path_) / name, ignored);
  fs::remove(path_, ignored);  // unless there is something else in it
}

void require_unused(const OutputSettings& output) {
  if (output.exist_ok || output.dir == "auto") return;
  const fs::path folder(output.dir);
  const bool resumable = fs::exists(folder / "last.pt");
  for (const char* name : {"last.pt", "best.pt", "results.csv", "metrics.json", "predictions.json"})
    if (fs::exists(folder / name))
      throw Error("the run folder holds results already", {.file = output.dir},
                  fmt::format("{}--exist-ok writes over them; --output DIR takes another folder",
                              resumable ? fmt::format("--resume {} goes on with them, ", output.dir)
                                        : std::string()));
}

void remove_results(const std::string& folder) {
  std::error_code ignored;
  const std::regex results(R"((last|best|epoch\d+)\.pt|(train_batch\d+|val_predictions)\.jpg|)"
                           R"((results|labels|confusion_matrix|(PR|F1|P|R)_curve)\.png)");
  std::vector<fs::path> found;
  for (fs::directory_iterator at(folder, ignored), end; at != end; at.increment(ignored))
    if (std::regex_match(at->path().filename().string(), results)) found.push_back(at->path());
  for (const fs::path& file : found) fs::remove(file, ignored);
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
