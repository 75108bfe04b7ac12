#include "dataloader/src/label_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/errors.h"

namespace brim {
namespace {
using detail::LabelRows;
using test::error_of;
using ::testing::HasSubstr;

LabelRows parse(const std::string& text, std::int64_t classes = 3) {
  LabelRows rows;
  detail::parse_label_rows(text, "l.txt", classes, rows);
  return rows;
}

std::string problem_of(const std::string& row) {
  const LabelRows rows = parse("0 .5 .5 .1 .1\n" + row + "\n");
  EXPECT_EQ(rows.boxes.size(), 1u) << row;
  EXPECT_EQ(rows.rows, 2) << row;
  if (rows.problems.size() != 1) return "no single problem";
  EXPECT_EQ(rows.problems[0].line, 2) << row;
  EXPECT_TRUE(rows.problems[0].bad) << row;
  return rows.problems[0].reason;
}

TEST(LabelRows, ReadsBoxes) {
  const LabelRows rows = parse("0 0.5 0.25 0.1 0.2\n2 0.1 0.2 0.3 0.4\n");
  ASSERT_EQ(rows.boxes.size(), 2u);
  EXPECT_EQ(rows.boxes[1].class_id, 2);
  EXPECT_FLOAT_EQ(rows.boxes[0].cy, 0.25f);
  EXPECT_FLOAT_EQ(rows.boxes[1].height, 0.4f);
  EXPECT_TRUE(rows.problems.empty());
}

TEST(LabelRows, AcceptsTheHabitsOfWriters) {
  for (const char* text :
       {"1 .5 .5 .5 .5", "1 .5 .5 .5 .5\r\n",
        "\xEF\xBB\xBF"
        "1 .5 .5 .5 .5\n",
        "\n\n  1\t.5 .5  +0.5 5e-1 \n", "1.0 .5 .5 .5 .5\n", "1 .5 .5 .5 .5\r1 .2 .2 .1 .1\r"}) {
    const LabelRows rows = parse(text);
    ASSERT_GE(rows.boxes.size(), 1u) << text;
    EXPECT_EQ(rows.boxes[0].class_id, 1) << text;
    EXPECT_FLOAT_EQ(rows.boxes[0].height, 0.5f) << text;
    EXPECT_TRUE(rows.problems.empty()) << text;
  }
}

TEST(LabelRows, AnEmptyFileIsBackground) {
  EXPECT_TRUE(parse("").boxes.empty());
  EXPECT_TRUE(parse("\n \r\n").problems.empty());
}

TEST(LabelRows, TakesThePolygonsExtentForItsBox) {
  const LabelRows rows = parse("0 .5 .5 .1 .1\n1 0.1 0.2 0.5 0.3 0.3 0.8\n");
  ASSERT_EQ(rows.boxes.size(), 2u);
  EXPECT_FLOAT_EQ(rows.boxes[1].cx, 0.3f);
  EXPECT_FLOAT_EQ(rows.boxes[1].cy, 0.5f);
  EXPECT_FLOAT_EQ(rows.boxes[1].width, 0.4f);
  EXPECT_FLOAT_EQ(rows.boxes[1].height, 0.6f);
  ASSERT_EQ(rows.polygons.size(), 1u);
  EXPECT_EQ(rows.polygons[0].box, 1u);
  EXPECT_EQ(rows.polygons[0].count, 6u);
  EXPECT_FLOAT_EQ(rows.points[3], 0.3f);
}

TEST(LabelRows, RejectsARowWithFourNumbers) {
  EXPECT_THAT(problem_of("0 0.5 0.5 0.1"), HasSubstr("expected 5 numbers (class cx cy width "
                                                     "height)"));
  EXPECT_THAT(problem_of("0 0.5 0.5 0.1"), HasSubstr("found 4; row rejected"));
}

TEST(LabelRows, NamesWhatIsWrongWithARow) {
  EXPECT_THAT(problem_of("0 nan .5 .1 .1"), HasSubstr("'nan' is not a finite number"));
  EXPECT_THAT(problem_of("0 .5 inf .1 .1"), HasSubstr("'inf' is not a finite number"));
  EXPECT_THAT(problem_of("0 .5 1e99 .1 .1"), HasSubstr("'1e99' is not a finite number"));
  EXPECT_THAT(problem_of("cat .5 .5 .1 .1"), HasSubstr("'cat' is not a number"));
  EXPECT_THAT(problem_of("0,.5,.5,.1,.1"), HasSubstr("separate with spaces"));
  EXPECT_THAT(problem_of("0 320 240 .1 .1"), HasSubstr("not pixels"));
  EXPECT_THAT(problem_of("0 -0.2 .5 .1 .1"), HasSubstr("coordinate -0.2 is outside [0, 1]"));
  EXPECT_THAT(problem_of("0 .5 .5 0 .1"), HasSubstr("box without area"));
  EXPECT_THAT(problem_of("0.5 .5 .5 .1 .1"), HasSubstr("class 0.5 is not a whole number"));
  EXPECT_THAT(problem_of("0 .5 .5 .1 .1 .9"), HasSubstr("a prediction with its confidence?"));
  EXPECT_THAT(problem_of("0 .5 .5 .1 .1 .9 .9 .9"), HasSubstr("found 8"));
  EXPECT_THAT(problem_of("0 .5 .5 .1 1e-60"), HasSubstr("box without area"));
}

TEST(LabelRows, PutsRoundingBackIntoRange) {
  const LabelRows rows = parse("0 1.00000012 0.5 0.1 0.1\n");
  ASSERT_EQ(rows.boxes.size(), 1u);
  EXPECT_EQ(rows.boxes[0].cx, 1.0f);
}

TEST(LabelRows, AClassOutOfRangeIsAnError) {
  EXPECT_EQ(error_of([] { parse("0 .5 .5 .1 .1\n3 .5 .5 .1 .1\n"); }),
            "l.txt:2: class 3 is out of range: the dataset names 3 classes (0 to 2)\n"
            "hint: add the class to 'names' of the data file, or correct the label");
  EXPECT_THAT(error_of([] { parse("-1 .5 .5 .1 .1\n"); }), HasSubstr("class -1 is out of range"));
  EXPECT_THAT(error_of([] { parse("1e9 .5 .5 .1 .1\n", -1); }), HasSubstr("out of range"));
  EXPECT_EQ(parse("77 .5 .5 .1 .1\n", -1).boxes[0].class_id, 77);
}

TEST(LabelRows, DropsRepeatedRows) {
  const LabelRows rows = parse("0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 0.50 .5 .1 .1\n");
  EXPECT_EQ(rows.boxes.size(), 2u);
  ASSERT_EQ(rows.problems.size(), 1u);
  EXPECT_FALSE(rows.problems[0].bad);
  EXPECT_EQ(rows.problems[0].line, 3);
  EXPECT_EQ(rows.problems[0].reason, "same as line 1; row dropped");
}

TEST(LabelRows, FindsRepeatedRowsAmongMany) {
  std::string text;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 500; ++i) text += "0 0." + std::to_string(1000 + i) + " .5 .1 .1\n";
  }
  const LabelRows rows = parse(text);
  EXPECT_EQ(rows.boxes.size(), 500u);
  ASSERT_EQ(rows.problems.size(), 500u);
  EXPECT_EQ(rows.problems[499].reason, "same as line 500; row dropped");
}

}  // namespace
}  // namespace brim
