// brim inspect image over the awkward files: one line each, and memory for what it shows.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <sstream>

#include "support/process.h"
#include "support/test_data.h"
#include "support/tsv.h"

namespace brim::test {
namespace {

struct Inspected {
  ProcessResult result;
  std::map<std::string, std::string> lines{};  ///< by file
};

Inspected inspect(const std::string& root, const std::vector<std::string>& files) {
  std::vector<std::string> words{"inspect", "image"};
  for (const std::string& file : files) words.push_back(root + file);
  Inspected inspected{.result = run_brim(words), .lines = {}};
  std::istringstream output(inspected.result.output);
  for (const std::string& file : files) {
    std::string line;
    std::getline(output, line);
    EXPECT_EQ(line.rfind(root + file + ": ", 0), 0u) << line;
    inspected.lines[file] = line.substr(std::min(line.size(), (root + file + ": ").size()));
  }
  EXPECT_EQ(output.peek(), std::istringstream::traits_type::eof()) << "more lines than files";
  return inspected;
}

TEST(InspectImage, SaysOfEachAwkwardFileWhatTheManifestSays) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  std::map<std::string, std::vector<std::string>> files;
  for (const auto& row : read_tsv(manifest)) files[row.at("expected")].push_back(row.at("file"));

  const Inspected sound = inspect(root, files["decodes"]), bad = inspect(root, files["error"]),
                  lenient = inspect(root, files["lenient"]);
  EXPECT_EQ(sound.result.exit_code, 0) << sound.result.error;
  EXPECT_EQ(bad.result.exit_code, 2) << bad.result.error;
  EXPECT_EQ(lenient.result.exit_code, 2) << lenient.result.error;
  for (const auto& row : read_tsv(manifest)) {
    SCOPED_TRACE(row.at("file") + ": " + row.at("what_is_odd"));
    if (row.at("expected") == "error") {
      EXPECT_EQ(bad.lines.at(row.at("file")).rfind("error: ", 0), 0u);
    }
    if (row.at("expected") != "decodes") continue;
    const std::string& line = sound.lines.at(row.at("file"));
    int height = 0, width = 0;
    double mean = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "%dx%dx3 mean %lf ", &height, &width, &mean), 3) << line;
    EXPECT_EQ(std::to_string(height) + "x" + std::to_string(width) + "x3 uint8",
              row.at("cv2_color_HxWxC"));
    EXPECT_NEAR(mean, std::stod(row.at("cv2_color_mean")), 2.0);
  }
}

TEST(InspectImage, TakesNoMoreThanTwiceTheDecodedSize) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  const std::int64_t base = inspect(root, {"derived/1x1.jpg"}).result.peak_resident;
  constexpr std::int64_t kSlack = std::int64_t{8} << 20;  // the run's own scatter
  std::int64_t largest = 0;
  for (const auto& row : read_tsv(manifest)) {
    std::int64_t height = 0, width = 0;
    std::sscanf(row.at("cv2_color_HxWxC").c_str(), "%ldx%ld", &height, &width);
    const std::int64_t decoded = 3 * height * width;
    const bool bomb = row.at("file").find("claims") != std::string::npos;
    if (decoded < kSlack && !bomb) continue;  // too small to tell from the scatter
    const Inspected seen = inspect(root, {row.at("file")});
    EXPECT_LE(seen.result.peak_resident, base + 2 * decoded + kSlack) << row.at("file");
    largest = std::max(largest, decoded);
  }
  EXPECT_GT(largest, 100 << 20);
}

}  // namespace
}  // namespace brim::test
