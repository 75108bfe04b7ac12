#include "support/damaged_store.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <stdexcept>

#include "support/cache_values.h"
#include "support/test_data.h"

namespace brim::test {

namespace fs = std::filesystem;

std::ostream& operator<<(std::ostream& out, const SmallStore& small) {
  return out << small.name;
}

std::vector<SmallStore> small_stores() {
  return {{"disk",
           [](const std::string& folder) {
             return make_disk_store(
                 {.directory = folder, .byte_limit = 1 << 20, .segment_bytes = 4096});
           },
           "segment-"},
          {"lmdb",
           [](const std::string& folder) {
             return make_lmdb_store({.directory = folder,
                                     .byte_limit = 1 << 20,
                                     .batch_bytes = 1 << 20,
                                     .batch_delay_ms = 1,
                                     .map_bytes = 1 << 20});
           },
           "data.mdb"}};
}

DamagedStore::DamagedStore(SmallStore small) : small_(std::move(small)) {
  {
    const auto store = small_.open(folder_.path());
    for (std::uint64_t i = 0; i < kValues; ++i)
      if (store->put(key_of(i), value_of(i, kValueBytes), 1) != PutResult::Stored)
        throw std::runtime_error("cannot fill a small store: " + store->stats().last_error);
    store->flush();
  }
  for (const auto& entry : fs::directory_iterator(folder_.path()))
    if (entry.path().filename().string().starts_with(small_.prefix)) file_ = entry.path().string();
  sound_ = read_file(file_);
}

int DamagedStore::look(const std::string& bytes) const {
  for (const auto& entry : fs::directory_iterator(folder_.path()))
    if (entry.path().string() != file_ && entry.path().filename() != "brim.lock")
      fs::remove(entry.path());
  std::ofstream(file_, std::ios::binary) << bytes;
  const auto store = small_.open(folder_.path());
  Blob blob;
  int held = 0;
  for (int round = 0; round < 2; ++round)
    for (std::uint64_t i = 0; i < kValues; ++i) {
      if (store->get(key_of(i), blob)) {
        if (!same(blob.bytes, value_of(i, kValueBytes))) return -1;
        held += round == 0 ? 1 : 0;
      } else if (round == 0) {
        store->put(key_of(i), value_of(i, kValueBytes), 1);
      } else {
        std::fprintf(stderr, "value %d was not refilled: %s\n", static_cast<int>(i),
                     store->stats().last_error.c_str());
        return -2;
      }
    }
  return held;
}

std::string patched(std::string sound, const std::uint8_t* data, std::size_t size) {
  for (; size >= 3; data += 3, size -= 3)
    sound[(data[0] | std::size_t{data[1]} << 8) % sound.size()] = static_cast<char>(data[2]);
  return sound;
}

}  // namespace brim::test
