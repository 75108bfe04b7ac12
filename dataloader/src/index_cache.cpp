#include "index_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

constexpr char kMagic[8] = {'B', 'R', 'I', 'M', 'I', 'D', 'X', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kByteOrder = 0x01020304;

struct Header {
  char magic[8] = {};
  std::uint32_t version = 0;
  std::uint32_t byte_order = 0;
  SourceDigest::Value digest{};
  std::uint64_t payload = 0;   ///< bytes after the header
  std::uint64_t checksum = 0;  ///< XXH3 of them, seeded with the digest
};
static_assert(sizeof(Header) == 48);

struct File {
  explicit File(int fd) : descriptor(fd) {}
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int descriptor;
};

struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
using State = std::unique_ptr<XXH3_state_t, FreeState>;

State new_state(const SourceDigest::Value& digest) {
  State state(XXH3_createState());
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset_withSeed(state.get(), digest.high ^ digest.low);
  return state;
}

bool read_all(int file, void* to, std::size_t count) {
  auto* at = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = ::read(file, at, std::min<std::size_t>(count, 1u << 30));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    count -= static_cast<std::size_t>(got);
  }
  return true;
}

/// Checksummed output; the first failure is kept and ends all further writing.
class Writer {
 public:
  Writer(int file, const SourceDigest::Value& digest) : file_(file), state_(new_state(digest)) {}

  void raw(const void* from, std::size_t count) {
    XXH3_64bits_update(state_.get(), from, count);
    written_ += count;
    const auto* at = static_cast<const char*>(from);
    while (count > 0 && error_ == 0) {
      const ssize_t put = ::write(file_, at, std::min<std::size_t>(count, 1u << 30));
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) {
        error_ = put < 0 ? errno : EIO;
        return;
      }
      at += put;
      count -= static_cast<std::size_t>(put);
    }
  }
  void number(std::uint64_t value) { raw(&value, sizeof value); }
  void text(const std::string& value) {
    number(value.size());
    raw(value.data(), value.size());
  }
  template <class T>
  void array(const GrowingArray<T>& values) {
    number(values.size());
    raw(values.data(), values.size() * sizeof(T));
  }
  int error() const { return error_; }
  std::uint64_t written() const { return written_; }
  std::uint64_t checksum() const { return XXH3_64bits_digest(state_.get()); }

 private:
  int file_;
  State state_;
  std::uint64_t written_ = 0;
  int error_ = 0;
};

/// Checksummed input that never believes a length longer than what is left.
class Reader {
 public:
  Reader(int file, const Header& header)
      : file_(file), left_(header.payload), state_(new_state(header.digest)) {}

  bool raw(void* to, std::uint64_t count) {
    if (count > left_ || !read_all(file_, to, count)) return false;
    XXH3_64bits_update(state_.get(), to, count);
    left_ -= count;
    return true;
  }
  bool number(std::uint64_t& value) { return raw(&value, sizeof value); }
  bool text(std::string& value) {
    std::uint64_t count = 0;
    if (!number(count) || count > left_) return false;
    value.resize(count);
    return raw(value.data(), count);
  }
  template <class T>
  bool array(GrowingArray<T>& values) {
    std::uint64_t count = 0;
    if (!number(count) || count > left_ / sizeof(T)) return false;
    values.resize(count);
    return raw(values.data(), count * sizeof(T));
  }
  /// A count of things that take at least `bytes` each.
  bool count(std::uint64_t& value, std::uint64_t bytes) {
    return number(value) && value <= left_ / bytes;
  }
  bool finished(std::uint64_t checksum) const {
    return left_ == 0 && XXH3_64bits_digest(state_.get()) == checksum;
  }

 private:
  int file_;
  std::uint64_t left_;
  State state_;
};

void write_payload(Writer& out, const SampleIndex& index, std::uint64_t fingerprint) {
  out.number(fingerprint);
  out.number(static_cast<std::uint64_t>(index.task));
  out.number(index.members ? 1 : 0);
  out.number(index.directories.size());
  for (const std::string& directory : index.directories) out.text(directory);
  out.number(index.class_names.size());
  for (const std::string& name : index.class_names) out.text(name);
  out.number(index.warnings.size());
  for (const DatasetWarning& warning : index.warnings) {
    out.text(warning.file);
    out.number(static_cast<std::uint64_t>(warning.line));
    out.text(warning.reason);
  }
  out.array(index.entries);
  out.array(index.names);
  out.array(index.boxes);
  out.array(index.polygons);
  out.array(index.points);
}

bool read_texts(Reader& in, std::vector<std::string>& texts) {
  std::uint64_t count = 0;
  if (!in.count(count, 8)) return false;
  texts.resize(count);
  return std::all_of(texts.begin(), texts.end(), [&](std::string& text) { return in.text(text); });
}

bool read_warnings(Reader& in, std::vector<DatasetWarning>& warnings) {
  std::uint64_t count = 0;
  if (!in.count(count, 24)) return false;
  warnings.resize(count);
  for (DatasetWarning& warning : warnings) {
    std::uint64_t line = 0;
    if (!in.text(warning.file) || !in.number(line) || !in.text(warning.reason)) return false;
    warning.line = static_cast<std::int64_t>(line);
  }
  return true;
}

bool read_payload(Reader& in, StoredIndex& stored) {
  SampleIndex& index = stored.index;
  std::uint64_t task = 0, members = 0;
  if (!in.number(stored.fingerprint) || !in.number(task) || !in.number(members)) return false;
  index.task = static_cast<Task>(task);
  index.members = members != 0;
  return task <= 1 && read_texts(in, index.directories) && read_texts(in, index.class_names) &&
         read_warnings(in, index.warnings) && in.array(index.entries) && in.array(index.names) &&
         in.array(index.boxes) && in.array(index.polygons) && in.array(index.points);
}

bool read_header(int file, const SourceDigest& digest, Header& header) {
  return read_all(file, &header, sizeof header) &&
         std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.version == kVersion &&
         header.byte_order == kByteOrder && header.digest == digest.value();
}

/// Removes what writers that were killed left behind.
void remove_stale_temporaries(const fs::path& file) {
  std::error_code ignored;
  const std::string prefix = file.filename().string() + ".tmp";
  for (fs::directory_iterator it(file.parent_path(), ignored), end; !ignored && it != end;
       it.increment(ignored)) {
    if (!it->path().filename().string().starts_with(prefix)) continue;
    std::error_code failed;
    const auto written = it->last_write_time(failed);
    if (failed || fs::file_time_type::clock::now() - written < std::chrono::hours(1)) continue;
    fs::remove(it->path(), failed);
  }
}

}  // namespace

void SourceDigest::add(std::string_view text) {
  ordered_ = XXH3_64bits_withSeed(text.data(), text.size(), ordered_ + text.size() + 1);
}

void SourceDigest::add(std::uint64_t number) {
  add(std::string_view(reinterpret_cast<const char*>(&number), sizeof number));
}

void SourceDigest::add_file(std::string_view path, std::int64_t length, std::int64_t mtime_ns) {
  const std::int64_t facts[2] = {length, mtime_ns};
  const std::uint64_t seed = XXH3_64bits(facts, sizeof facts);
  const XXH128_hash_t hash = XXH3_128bits_withSeed(path.data(), path.size(), seed);
  sum_high_ += hash.high64;
  sum_low_ += hash.low64;
  ++files_;
}

void SourceDigest::merge_files(const SourceDigest& other) {
  sum_high_ += other.sum_high_;
  sum_low_ += other.sum_low_;
  files_ += other.files_;
}

SourceDigest::Value SourceDigest::value() const {
  const std::uint64_t parts[4] = {ordered_, files_, sum_high_, sum_low_};
  const XXH128_hash_t hash = XXH3_128bits(parts, sizeof parts);
  return {hash.high64, hash.low64};
}

std::string index_file(const std::string& directory, std::string_view what) {
  char name[40];
  std::snprintf(name, sizeof name, "%016llx.brimindex",
                static_cast<unsigned long long>(XXH3_64bits(what.data(), what.size())));
  return (fs::path(directory) / name).string();
}

bool index_matches(const std::string& file, const SourceDigest& digest) {
  const File in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  return in.descriptor >= 0 && read_header(in.descriptor, digest, header);
}

std::optional<StoredIndex> load_index(const std::string& file, const SourceDigest& digest) {
  const File in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  struct stat status {};
  if (in.descriptor < 0 || !read_header(in.descriptor, digest, header) ||
      ::fstat(in.descriptor, &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) - sizeof header != header.payload) {
    return std::nullopt;
  }
  StoredIndex stored;
  Reader reader(in.descriptor, header);
  if (!read_payload(reader, stored) || !reader.finished(header.checksum) ||
      !stored.index.consistent()) {
    return std::nullopt;
  }
  return stored;
}

std::string save_index(const std::string& file, const SourceDigest& digest,
                       const SampleIndex& index, std::uint64_t fingerprint) {
  const fs::path path(file);
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return "cannot make " + path.parent_path().string() + ": " + error.message();
  remove_stale_temporaries(path);

  std::string temporary = file + ".tmpXXXXXX";
  const File out(::mkostemp(temporary.data(), O_CLOEXEC));
  if (out.descriptor < 0) return "cannot write " + temporary + ": " + std::strerror(errno);
  Header header{.version = kVersion, .byte_order = kByteOrder, .digest = digest.value()};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  int failed = 0;
  if (::lseek(out.descriptor, sizeof header, SEEK_SET) < 0) failed = errno;
  Writer writer(out.descriptor, header.digest);
  write_payload(writer, index, fingerprint);
  header.payload = writer.written();
  header.checksum = writer.checksum();
  if (failed == 0) failed = writer.error();
  if (failed == 0 && ::pwrite(out.descriptor, &header, sizeof header, 0) != sizeof header) {
    failed = errno != 0 ? errno : EIO;
  }
  if (failed == 0 && ::fchmod(out.descriptor, 0644) != 0) failed = errno;
  if (failed == 0 && ::fsync(out.descriptor) != 0) failed = errno;
  if (failed == 0 && ::rename(temporary.c_str(), file.c_str()) != 0) failed = errno;
  if (failed == 0) return {};
  ::unlink(temporary.c_str());
  return "cannot write " + file + ": " + std::strerror(failed);
}

}  // namespace brim::detail
