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

void write_all(const File& file, const std::string& path, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t done = ::write(file.get(), data, size);
    if (done < 0) {
      if (errno == EINTR) continue;
      fail(path, "cannot write", errno);
    }
    data += done;
    size -= static_cast<std::size_t>(done);
  }
}
}  // namespace

void write_file_atomically(const std::string& path, const char* data, std::size_t size) {
  const std::filesystem::path target(path);
  const std::filesystem::path folder =
      target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  // One name per target: what a crash left behind is overwritten by the next attempt.
  const std::string temporary = (folder / ("." + target.filename().string() + ".tmp")).string();
  try {
    File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0) fail(path, "cannot write", errno);
    write_all(file, path, data, size);
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
