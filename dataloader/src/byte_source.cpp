#include "brim/dataloader/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "brim/dataloader/decode.h"

namespace brim {
namespace {

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : path_(path) {
    do {
      descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0) fail("cannot open");
  }
  ~OpenFile() { ::close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  std::uint64_t size() const {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) fail("cannot read");
    if (!S_ISREG(status.st_mode)) throw DecodeError("not a regular file", {.file = path_});
    return static_cast<std::uint64_t>(status.st_size);
  }

  /// Bytes read; fewer than asked for only at the end of the file.
  std::size_t read(std::byte* to, std::size_t length, std::uint64_t offset) const {
    std::size_t done = 0;
    while (done < length) {
      const ssize_t got =
          ::pread(descriptor_, to + done, length - done, static_cast<off_t>(offset + done));
      if (got == 0) break;
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("cannot read");
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw DecodeError(std::string(what) + ": " + std::strerror(errno), {.file = path_});
  }

  const std::string& path_;
  int descriptor_ = -1;
};

}  // namespace

std::span<const std::byte> read_bytes(const Record& record, const std::string& path,
                                      std::vector<std::byte>& buffer) {
  if (record.memory.data() != nullptr) return record.memory;
  const OpenFile file(path);
  const SourceIdentity& source = record.source;
  std::uint64_t length = source.length;
  // The size is asked for only where the range does not tell it, or could be a claim.
  if (length == 0 || length > buffer.size()) {
    const std::uint64_t size = file.size();
    const std::uint64_t there = size > source.offset ? size - source.offset : 0;
    if (length > there) {
      throw DecodeError("shorter than expected: " + std::to_string(source.length) +
                            " bytes at offset " + std::to_string(source.offset) + " wanted, " +
                            std::to_string(there) + " are there",
                        {.file = path});
    }
    if (length == 0) length = there;
  }
  if (buffer.size() < length) buffer.resize(length);
  const std::size_t got = file.read(buffer.data(), length, source.offset);
  if (got < length) {
    throw DecodeError("shorter than expected: " + std::to_string(length) + " bytes wanted, " +
                          std::to_string(got) + " are there",
                      {.file = path});
  }
  return {buffer.data(), static_cast<std::size_t>(length)};
}

}  // namespace brim
