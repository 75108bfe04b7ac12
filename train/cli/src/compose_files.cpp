#include "compose_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, int error) {
  throw Error(std::string("cannot be written: ") + std::strerror(error), {.file = path},
              error == ENOSPC ? "free some space and run the same command again: it goes on where "
                                "it stopped"
                              : "");
}

int open_for_writing(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

std::string read_text(const std::string& path) {
  std::ostringstream text;
  if (std::ifstream in(path, std::ios::binary); in) text << in.rdbuf();
  return std::move(text).str();
}

/// The number after "images: ".
std::int64_t images_in(const std::string& text) {
  const std::size_t at = text.find("images: ");
  std::int64_t images = 0;
  if (at != std::string::npos) {
    std::from_chars(text.data() + at + 8, text.data() + text.size(), images);
  }
  return images;
}

}  // namespace

void write_whole_file(const std::string& path, std::string_view bytes) {
  const fs::path target(path);
  // Hidden, so that nobody takes it for a picture; the same name each time, so that a killed run
  // leaves nothing that the next one does not replace.
  const std::string temporary =
      (target.parent_path() / ("." + target.filename().string() + ".part")).string();
  int file = open_for_writing(temporary);
  if (file < 0 && errno == ENOENT) {
    std::error_code error;
    fs::create_directories(target.parent_path(), error);
    if (error) fail(target.parent_path().string(), error.value());
    file = open_for_writing(temporary);
  }
  if (file < 0) fail(temporary, errno);
  int failed = 0;
  while (!bytes.empty() && failed == 0) {
    const ssize_t put = ::write(file, bytes.data(), bytes.size());
    if (put < 0 && errno != EINTR) failed = errno;
    if (put > 0) bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::close(file) != 0 && failed == 0) failed = errno;
  if (failed == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) failed = errno;
  if (failed == 0) return;
  ::unlink(temporary.c_str());
  fail(path, failed);
}

bool is_complete_jpeg(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  unsigned char start[2] = {}, end[2] = {};
  const off_t size = ::lseek(file, 0, SEEK_END);
  const bool read =
      size >= 4 && ::pread(file, start, 2, 0) == 2 && ::pread(file, end, 2, size - 2) == 2;
  ::close(file);
  return read && start[0] == 0xFF && start[1] == 0xD8 && end[0] == 0xFF && end[1] == 0xD9;
}

ComposeFolder::ComposeFolder(const std::string& folder, const std::string& settings,
                             std::int64_t images)
    : file_(folder + "/compose.txt"), settings_(settings), images_(images) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(folder, error.value());
  lock_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) fail(folder, errno);
  try {
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      throw Error("another process is composing a set here", {.file = folder});
    }
    const std::string before = read_text(file_);
    if (before.empty() && !fs::is_empty(folder)) {
      throw Error("is not empty and holds no composed set", {.file = folder},
                  "name a folder that does not exist yet");
    }
    if (!before.empty() && !before.starts_with(settings)) {
      throw Error("holds a set of other settings (see compose.txt there)", {.file = folder},
                  "name another folder, or remove this one");
    }
    if (images_in(before) > images) {
      throw Error("holds " + std::to_string(images_in(before)) + " images, more than the " +
                      std::to_string(images) + " wanted",
                  {.file = folder}, "name another folder, or remove this one");
    }
    write("begun");
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

ComposeFolder::~ComposeFolder() {
  ::close(lock_);
}

void ComposeFolder::write(const char* state) const {
  write_whole_file(file_,
                   settings_ + "images: " + std::to_string(images_) + "\nstate: " + state + "\n");
}

void ComposeFolder::mark_finished() {
  write("finished");
}

}  // namespace brim::detail
