#include "run_folder.h"

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

void prepare_run_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw Error("cannot make the run folder: " + error.message(), {.file = folder},
                "choose another with --output DIR");
  }
  const std::string probe = folder + "/.writable";
  errno = 0;
  std::ofstream(probe) << "brim\n";
  if (!fs::exists(probe)) {
    throw Error(std::string("cannot write in the run folder: ") + std::strerror(errno),
                {.file = folder}, "choose another with --output DIR");
  }
  fs::remove(probe, error);
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

void append_line(const std::string& path, const std::string& line) {
  std::ofstream out(path, std::ios::app);
  out << line << '\n';
  out.flush();
  if (!out) throw Error("cannot write", {.file = path}, "is the disk full?");
}

}  // namespace brim::cli
