#include "weights_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "brim/cache/error.h"
#include "weights_unpickle.h"

namespace brim::detail {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_write(const std::string& path, int code) {
  throw Error(std::string("cannot write: ") + std::strerror(code),
              {.file = path, .line = 0, .key = {}},
              code == ENOSPC ? "free some space on this disk or choose another folder"
                             : "choose a folder that you may write to");
}

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

int write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ::ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return ::fsync(descriptor) == 0 ? 0 : errno;
}

/// Little-endian reads that refuse to leave the file.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  std::string_view slice(std::uint64_t at, std::uint64_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at)
      throw ArchiveFault("it ends inside a member");
    return bytes_.substr(at, count);
  }

  std::uint64_t number(std::uint64_t at, unsigned width) const {
    const std::string_view raw = slice(at, width);
    std::uint64_t value = 0;
    for (unsigned i = 0; i < width; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(raw[i])) << (8 * i);
    return value;
  }

 private:
  std::string_view bytes_;
};

constexpr std::uint32_t kFull = 0xFFFFFFFFU;

/// Sizes and offset that did not fit 32 bits stand in the extra field 1 (zip64), in this order.
void widen(const Cursor& file, std::uint64_t extra, std::uint64_t length,
           std::initializer_list<std::uint64_t*> values) {
  const std::uint64_t end = extra + length;
  while (extra + 4 <= end) {
    const std::uint64_t id = file.number(extra, 2);
    const std::uint64_t size = file.number(extra + 2, 2);
    if (id == 1) {
      std::uint64_t at = extra + 4;
      for (std::uint64_t* value : values)
        if (*value == kFull) {
          *value = file.number(at, 8);
          at += 8;
        }
      return;
    }
    extra += 4 + size;
  }
}

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t offset = 0;
};

Directory find_directory(std::string_view bytes, const Cursor& file) {
  const std::size_t end = bytes.rfind("PK\x05\x06");
  if (end == std::string_view::npos) throw ArchiveFault("the table of contents at its end is gone");
  Directory result{file.number(end + 10, 2), file.number(end + 16, 4)};
  if ((result.entries == 0xFFFFU || result.offset == kFull) && end >= 20 &&
      bytes.substr(end - 20, 4) == "PK\x06\x07") {
    const std::uint64_t wide = file.number(end - 12, 8);
    result = {file.number(wide + 32, 8), file.number(wide + 48, 8)};
  }
  return result;
}

}  // namespace

std::vector<char> read_bytes(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error))
    throw Error("is a folder, expected a weights file", {.file = path, .line = 0, .key = {}});
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in)
    throw Error(std::string("cannot read the weights: ") + std::strerror(errno),
                {.file = path, .line = 0, .key = {}}, "check the path given to --weights");
  std::vector<char> bytes(static_cast<std::size_t>(std::max<std::streamoff>(0, in.tellg())));
  in.seekg(0);
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw Error("cannot read the weights to their end", {.file = path, .line = 0, .key = {}},
                "copy or download the file again");
  return bytes;
}

void write_bytes_atomically(const std::string& path, std::string_view bytes) {
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : ".";
  const std::string temporary = path + ".part-" + std::to_string(::getpid());
  int code = 0;
  {
    const Descriptor out{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    code = out.number < 0 ? errno : write_all(out.number, bytes);
  }
  if (code == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) code = errno;
  if (code != 0) {
    ::unlink(temporary.c_str());
    fail_write(path, code);
  }
  const Descriptor parent{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (parent.number >= 0) ::fsync(parent.number);
}

std::vector<ZipEntry> read_zip(std::string_view bytes) {
  const Cursor file(bytes);
  const Directory directory = find_directory(bytes, file);
  std::vector<ZipEntry> result;
  std::uint64_t at = directory.offset;
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    if (file.slice(at, 4) != "PK\x01\x02") throw ArchiveFault("its table of contents is broken");
    const std::uint64_t name = file.number(at + 28, 2);
    const std::uint64_t extra = file.number(at + 30, 2);
    std::uint64_t size = file.number(at + 20, 4);
    std::uint64_t unpacked = file.number(at + 24, 4);
    std::uint64_t header = file.number(at + 42, 4);
    widen(file, at + 46 + name, extra, {&unpacked, &size, &header});
    ZipEntry entry{.name = std::string(file.slice(at + 46, name)),
                   .data = {},
                   .crc = static_cast<std::uint32_t>(file.number(at + 16, 4)),
                   .compressed = file.number(at + 10, 2) != 0};
    const std::uint64_t begin =
        header + 30 + file.number(header + 26, 2) + file.number(header + 28, 2);
    entry.data = file.slice(begin, size);
    // Members that share bytes would cost more to read than the file is long.
    total += size;
    if (total > bytes.size()) throw ArchiveFault("its members lie over each other");
    const auto* raw = reinterpret_cast<const unsigned char*>(entry.data.data());
    // Python can be told to write no checksums; the field is then 0.
    if (!entry.compressed && entry.crc != 0 &&
        crc32_z(crc32_z(0, nullptr, 0), raw, entry.data.size()) != entry.crc)
      throw ArchiveFault("the checksum of '" + entry.name + "' does not match");
    result.push_back(std::move(entry));
    at += 46 + name + extra + file.number(at + 32, 2);
  }
  return result;
}

}  // namespace brim::detail
