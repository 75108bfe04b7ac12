#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "brim/cache/error.h"
#include "brim/train/checkpoint.h"

namespace brim {
namespace {
[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  throw Error(std::string(what) + ": " + std::strerror(error), {.file = path},
              error == ENOSPC ? "free some space; the file from before is untouched" : "");
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }
  int close() {
    const int result = ::close(descriptor_);
    descriptor_ = -1;
    return result;
  }

 private:
  int descriptor_;
};

/// 0, or what went wrong.
int write_all(const File& file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(file.get(), bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(done));
  }
  return 0;
}
}  // namespace

void write_file_atomically(const std::string& path, const char* data, std::size_t size) {
  write_file_atomically(path, [&](const FileSink& sink) { sink({data, size}); });
}

void write_file_atomically(const std::string& path,
                           const std::function<void(const FileSink&)>& write) {
  const std::filesystem::path target(path);
  const std::filesystem::path folder =
      target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  // One name per target: what a crash left behind is overwritten by the next attempt.
  const std::string temporary = (folder / ("." + target.filename().string() + ".tmp")).string();
  try {
    File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0) fail(path, "cannot write", errno);
    int error = 0;  // of the first write that failed: what follows is not written
    write([&](std::string_view bytes) {
      if (error == 0) error = write_all(file, bytes);
    });
    if (error != 0) fail(path, "cannot write", error);
    if (::fsync(file.get()) != 0) fail(path, "cannot write to disk", errno);
    if (file.close() != 0) fail(path, "cannot write", errno);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "cannot replace", errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  const File directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) ::fsync(directory.get());
}

}  // namespace brim
