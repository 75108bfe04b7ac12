#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "brim/cache/key.h"

namespace brim::cli {

/// What a cache folder is used for: entries know their key alone, so the data sets whose images
/// they may be are noted beside them. `brim cache gc` keeps what one of them still asks for.
struct CacheUse {
  std::string data{};    ///< absolute path
  std::string split{};   ///< "train", ...
  std::string recipe{};  ///< what was done to the bytes
};

/// Notes the use, or that it is still one, in `directory`.
void note_cache_use(const std::string& directory, const CacheUse& use);

struct WantedEntries {
  std::unordered_set<CacheKey> keys{};
  std::int64_t uses = 0;            ///< noted in the folder
  std::vector<std::string> gone{};  ///< data that is absent, unreadable or unused for too long
  std::vector<std::string> gone_notes{};  ///< the files that note them
};
/// Keys that the noted uses ask for now. Uses that nobody made for `most_days` days (0: any age)
/// and those of absent data ask for nothing.
WantedEntries wanted_entries(const std::string& directory, const std::string& index_directory,
                             std::int64_t most_days);
/// What the noted uses of one data set ask for and no other use does.
struct EntriesOfData {
  std::unordered_set<CacheKey> keys{};
  std::vector<std::string> notes{};  ///< the files that note its uses; empty: none
};
/// Throws Error where `data` (an absolute path) is absent: its keys follow from its files.
EntriesOfData entries_of(const std::string& directory, const std::string& index_directory,
                         const std::string& data);
/// Notes these uses no longer. Once their entries are removed: without any use they would stay.
void forget(const std::vector<std::string>& notes);

}  // namespace brim::cli
