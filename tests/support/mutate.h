#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "brim/dataloader/random.h"

namespace brim::test {

/// `text` with a few bytes changed, runs copied, doubled or cut out, or pieces of `words` put in.
inline std::string mutated(std::string text, const std::vector<std::string>& words,
                           Generator& random) {
  const int changes = 1 + static_cast<int>(random.below(6));
  for (int i = 0; i < changes; ++i) {
    const std::size_t at = random.below(text.size() + 1);
    const std::size_t count = random.below(std::min<std::size_t>(text.size() - at, 40) + 1);
    switch (random.below(5)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random.next());
        break;
      case 1:
        text.erase(at, count);
        break;
      case 2:
        text.insert(random.below(text.size() + 1), text.substr(at, count));
        break;
      case 3:
        text.insert(at, words[random.below(words.size())]);
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

}  // namespace brim::test
