#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "brim/cache/stores.h"
#include "support/child_process.h"

namespace brim::test {

/// A small store of one kind and the one file its bytes are in.
struct SmallStore {
  std::string name;  ///< "disk", "lmdb"
  std::function<std::shared_ptr<Store>(const std::string& folder)> open;
  std::string prefix;  ///< of the file's name
};
std::vector<SmallStore> small_stores();
std::ostream& operator<<(std::ostream& out, const SmallStore& small);

/// A small store that was filled and closed, to be looked at with other bytes in its file.
class DamagedStore {
 public:
  static constexpr std::uint64_t kValues = 12;
  static constexpr std::size_t kValueBytes = 180;

  explicit DamagedStore(SmallStore small);

  /// Opens the store over `bytes` and nothing else, reads everything and puts back what is missing.
  /// Returns the number of values that were still there; negative: a wrong one was served, or one
  /// could not be put back.
  int look(const std::string& bytes) const;

  std::string folder() const { return folder_.path(); }
  const std::string& file() const { return file_; }
  const std::string& sound() const { return sound_; }  ///< the file's bytes

 private:
  SmallStore small_;
  FastDir folder_;
  std::string file_, sound_;
};

/// `sound` as a fuzzer's input changes it: each 3 bytes of it are a place and what is put there.
std::string patched(std::string sound, const std::uint8_t* data, std::size_t size);

}  // namespace brim::test
