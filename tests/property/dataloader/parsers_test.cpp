// Random bytes and mutations of good input through every parser that reads users' files: each
// gives Error or a result that holds together. The checks are those of the fuzz targets.
#include <gtest/gtest.h>

#include <string>

#include "brim/dataloader/random.h"
#include "support/mutate.h"
#include "support/tar_files.h"
#include "support/yolo_files.h"

#define LLVMFuzzerTestOneInput check_label_rows
#include "fuzz/label_rows_fuzz.cpp"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput check_data_yaml
#include "fuzz/data_yaml_fuzz.cpp"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput check_coco_json
#include "fuzz/coco_json_fuzz.cpp"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput check_tar_headers
#include "fuzz/tar_headers_fuzz.cpp"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput check_image_size
#include "fuzz/image_size_fuzz.cpp"
#undef LLVMFuzzerTestOneInput

namespace brim {
namespace {

using Check = int (*)(const std::uint8_t*, std::size_t);

void run(Check check, const std::string& good, const std::vector<std::string>& words, int cases) {
  for (int seed = 0; seed < cases; ++seed) {
    Generator random(static_cast<std::uint64_t>(seed), Purpose::User);
    std::string text;
    if (seed % 10 == 0) {
      for (std::uint64_t n = random.below(2000); n > 0; --n)
        text += static_cast<char>(random.next());
    } else {
      text = test::mutated(good, words, random);
    }
    EXPECT_NO_THROW(check(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()))
        << "seed " << seed;
  }
}

TEST(Parsers, LabelRowsSurviveAnything) {
  run(check_label_rows, "0 0.5 0.5 0.1 0.2\n79 .1 .2 .5 .3 .3 .8\n\r\n3 1e-1 0.2 1 1\n",
      {"nan", "inf", "-", "1e999", "\n", " ", std::string("\0", 1), "99999999999", "0x1p3", "+"},
      20000);
}

TEST(Parsers, DataYamlSurvivesAnything) {
  run(check_data_yaml, "path: .\ntrain: [a, b]\nval: c\nnc: 2\nnames: {0: x, 1: y}\n",
      {"\n", "- ", "{", "[", "&a ", "*a", "names:", "nc: ", "!!int ", "? ", "99999999999", "\t"},
      4000);
}

TEST(Parsers, CocoJsonSurvivesAnything) {
  run(check_coco_json,
      R"({"images":[{"id":1,"file_name":"a.jpg","width":5,"height":6}],"annotations":[{"id":1,
"image_id":1,"category_id":1,"bbox":[1,2,3,4],"segmentation":[[1,2,3,4,5,6]],"iscrowd":0}],
"categories":[{"id":1,"name":"a"}]})",
      {"[", "]", "{", "}", ",", "\"id\":", "1e308", "-1", "null", "\"bbox\":[1]", "\"images\":"},
      10000);
}

TEST(Parsers, TarHeadersSurviveAnything) {
  const std::string good =
      test::tar_member("l", "a/very/long/name", 'L') +
      test::tar_member("x", "14 path=abcde\n", 'x') +
      test::tar_archive({{"a.jpg", "hello"}, {"b.txt", std::string(700, 'b')}});
  run(check_tar_headers, good, {std::string(512, '\0'), "\x80\xFF", "77777777777", "ustar"}, 4000);
}

TEST(Parsers, ImageHeadersSurviveAnything) {
  run(check_image_size, test::jpeg_header(300, 200, 6), {"\xFF", "\xFF\xD8", "Exif"}, 10000);
  run(check_image_size, test::png_header(300, 200) + "eXIfMM", {"\xFF", "eXIf", "IDAT"}, 5000);
}

}  // namespace
}  // namespace brim
