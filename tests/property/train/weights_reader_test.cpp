// Mutations of pickles and archives that PyTorch wrote: each gives Error or tensors that lie within
// their storage. The checks are those of the fuzz target.
#include <gtest/gtest.h>

#include <string>

#include "support/mutate.h"
#include "support/test_data.h"

#define LLVMFuzzerTestOneInput check_weights
#include "fuzz/weights_fuzz.cpp"
#undef LLVMFuzzerTestOneInput

namespace brim {
namespace {

const std::vector<std::string> kWords{"(",
                                      ")",
                                      "t",
                                      "Q",
                                      "R",
                                      "b",
                                      "u",
                                      "s",
                                      "e",
                                      "}",
                                      "]",
                                      "0",
                                      "1",
                                      "2",
                                      "h\x01",
                                      "q\x02",
                                      "\x94",
                                      "\x85",
                                      "\x86",
                                      "\x87",
                                      "K\x02",
                                      "J\xFF\xFF\xFF\xFF",
                                      std::string("j\x00\x00\x00\x80", 5),
                                      "\x8A\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
                                      "X\xFF\xFF\xFF\xFF",
                                      "ctorch\nLongStorage\n",
                                      "ccollections\nOrderedDict\n)R",
                                      "PK\x01\x02",
                                      "PK\x05\x06",
                                      "PK\x06\x07"};

void check(const std::string& text, int seed) {
  EXPECT_NO_THROW(check_weights(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()))
      << "seed " << seed;
}

/// The pickle inside an archive of PyTorch's.
std::string pickle_of(const std::string& archive) {
  for (const auto& entry : detail::read_zip(archive))
    if (entry.name.ends_with("/data.pkl")) return std::string(entry.data);
  throw std::logic_error("no data.pkl");
}

TEST(WeightsReader, SurvivesAnyPickleAndAnyArchive) {
  for (const char* name : {"state_dict", "checkpoint_protocol4", "views_protocol5"}) {
    SCOPED_TRACE(name);
    const std::string archive =
        test::read_file(test::source_dir() + "/tests/reference/files/" + name + ".pt");
    const std::string pickle = pickle_of(archive);
    for (int seed = 0; seed < 3000; ++seed) {
      Generator random(static_cast<std::uint64_t>(seed), Purpose::User);
      check(test::mutated(seed % 3 == 0 ? archive : pickle, kWords, random), seed);
    }
  }
}

TEST(WeightsReader, SurvivesRandomInstructions) {
  for (int seed = 0; seed < 3000; ++seed) {
    Generator random(static_cast<std::uint64_t>(seed), Purpose::User);
    std::string pickle;
    for (std::uint64_t n = random.below(60); n > 0; --n)
      pickle += kWords[random.below(kWords.size())];
    check(pickle + ".", seed);
  }
}

}  // namespace
}  // namespace brim
