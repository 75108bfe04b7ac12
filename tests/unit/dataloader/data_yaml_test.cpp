#include "dataloader/src/data_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/errors.h"
#include "support/test_data.h"

namespace brim {
namespace {
using detail::DataYaml;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataYaml parse(const std::string& text, Split split = Split::Train) {
  return detail::parse_data_yaml(text, "/data/set/data.yaml", split);
}

std::string error_in(const std::string& text) {
  return error_of([&] { parse(text); });
}

TEST(DataYaml, ResolvesPathsRelativeToTheFile) {
  const std::string names = "names: [a]\n";
  EXPECT_EQ(parse("train: images/train\n" + names).sources[0].path, "/data/set/images/train");
  EXPECT_EQ(parse("path: .\ntrain: images/train/\n" + names).sources[0].path,
            "/data/set/images/train");
  EXPECT_EQ(parse("path: ../other\ntrain: t.txt\n" + names).sources[0].path, "/data/other/t.txt");
  EXPECT_EQ(parse("path: /abs\ntrain: t\n" + names).sources[0].path, "/abs/t");
  EXPECT_EQ(parse("path: /abs\ntrain: /x/t\n" + names).sources[0].path, "/x/t");
}

TEST(DataYaml, TakesAListOfSources) {
  const DataYaml data = parse("train:\n  - one\n  - two.txt\nnames: [a]\n");
  ASSERT_EQ(data.sources.size(), 2u);
  EXPECT_EQ(data.sources[1].path, "/data/set/two.txt");
  EXPECT_EQ(data.sources[1].line, 3);
}

TEST(DataYaml, TakesNamesAsListOrMap) {
  EXPECT_THAT(parse("train: t\nnames: [cat, dog]\n").names, ElementsAre("cat", "dog"));
  EXPECT_THAT(parse("train: t\nnames: {1: dog, 0: cat}\n").names, ElementsAre("cat", "dog"));
  EXPECT_THAT(parse("train: t\nnc: 2\n").names, ElementsAre("class0", "class1"));
  EXPECT_THAT(parse("train: t\nnc: 2\nnames: [1, 2]\n").names, ElementsAre("1", "2"));
}

TEST(DataYaml, ReadsOnlyTheSplitThatIsWanted) {
  EXPECT_EQ(parse("train: t\nval: v\nnames: [a]\n", Split::Val).sources[0].path, "/data/set/v");
  EXPECT_EQ(error_of([] { parse("train: t\ntest: \nnames: [a]\n", Split::Test); }),
            "/data/set/data.yaml: test: missing\nhint: name the folder or list file of these "
            "images, e.g. 'test: images/test'");
}

TEST(DataYaml, AnUnknownKeyIsAnErrorThatNamesTheNearest) {
  const std::string text = error_in("train: t\nnmaes: [a]\n");
  EXPECT_THAT(text, HasSubstr("/data/set/data.yaml:2: nmaes: unknown key"));
  EXPECT_THAT(text, HasSubstr("did you mean 'names'?"));
  EXPECT_THAT(error_in("trian: t\nnames: [a]\n"), HasSubstr("did you mean 'train'?"));
}

TEST(DataYaml, IgnoresWhatExportersAdd) {
  EXPECT_EQ(error_in("train: t\nnames: [a]\nroboflow: {url: x}\ndownload: |\n  code\n"), "");
}

TEST(DataYaml, SaysWhatIsWrongWithTheClasses) {
  EXPECT_THAT(error_in("train: t\n"), HasSubstr("names: no classes"));
  EXPECT_THAT(error_in("train: t\nnc: 3\nnames: [a, b]\n"),
              HasSubstr("data.yaml:2: nc: nc is 3 but names has 2 entries"));
  EXPECT_THAT(error_in("train: t\nnames: {0: a, 2: b}\n"),
              HasSubstr("class numbers must be 0 to 1 without holes, found 2"));
  EXPECT_THAT(error_in("train: t\nnames: {0: a, 0: b}\n"), HasSubstr("class 0 is named twice"));
  EXPECT_THAT(error_in("train: t\nnames: {x: a}\n"), HasSubstr("expected a class number"));
  EXPECT_THAT(error_in("train: t\nnames: cat\n"), HasSubstr("a list or a map"));
  EXPECT_THAT(error_in("train: t\nnames: [[a]]\n"), HasSubstr("expected a class name"));
  EXPECT_THAT(error_in("train: t\nnc: -1\n"), HasSubstr("nc: expected a number of classes"));
}

TEST(DataYaml, SaysWhatIsWrongWithTheYaml) {
  EXPECT_THAT(error_in("train: [t\n"), HasSubstr("/data/set/data.yaml:"));
  EXPECT_THAT(error_in("train: [t\n"), HasSubstr("broken YAML"));
  EXPECT_THAT(error_in(""), HasSubstr("expected 'key: value' lines"));
  EXPECT_THAT(error_in("- a\n"), HasSubstr("expected 'key: value' lines"));
  EXPECT_THAT(error_in("train: {a: b}\nnames: [a]\n"), HasSubstr("data.yaml:1: train: expected a "
                                                                 "path"));
  EXPECT_THAT(error_in("train: []\nnames: [a]\n"), HasSubstr("train: an empty list"));
}

TEST(DataYaml, WarnsOfEqualNames) {
  const DataYaml data = parse("train: t\nnames: [a, b, a]\n");
  ASSERT_EQ(data.warnings.size(), 1u);
  EXPECT_THAT(data.warnings[0].reason, HasSubstr("'a' names more than one class"));
}

TEST(DataYaml, AMissingFileOrFolderIsNamed) {
  const test::TempDir dir;
  EXPECT_EQ(error_of([&] { detail::read_data_yaml(dir.file("no.yaml"), Split::Train); }),
            dir.file("no.yaml") + ": no such data file\nhint: give the path of a data.yaml");
  const std::string file = dir.file("data.yaml");
  test::write_file(file, "train: images/train\nnames: [a]\n");
  const std::string text = error_of([&] { detail::read_data_yaml(file, Split::Train); });
  EXPECT_THAT(text,
              HasSubstr(file + ":1: train: no such file or folder: " + dir.file("images/train")));
}

TEST(DataYaml, FindsWhatExportersPutBesideTheFile) {
  const test::TempDir dir;
  test::write_file(dir.file("set/train/images/a.jpg"), "");
  test::write_file(dir.file("set/data.yaml"), "train: ../train/images\nnames: [a]\n");
  EXPECT_EQ(detail::read_data_yaml(dir.file("set/data.yaml"), Split::Train).sources[0].path,
            dir.file("set/train/images"));
}

}  // namespace
}  // namespace brim
