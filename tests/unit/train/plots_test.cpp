#include "brim/train/plots.h"

#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <set>

#include "brim/cache/error.h"
#include "support/test_data.h"
#include "train/src/plot_axes.h"

namespace brim::test {
namespace {

/// Number of different colours of a picture file, 0 where it cannot be read.
std::size_t colours(const std::string& path) {
  const cv::Mat image = cv::imread(path);
  std::set<int> seen;
  for (int y = 0; y < image.rows; ++y) {
    for (int x = 0; x < image.cols; ++x) {
      const auto& p = image.at<cv::Vec3b>(y, x);
      seen.insert(p[0] << 16 | p[1] << 8 | p[2]);
    }
  }
  return seen.size();
}

DetectionScores some_scores(int classes) {
  DetectionMetrics metrics(classes);
  for (int i = 0; i < 40; ++i) {
    const auto c = static_cast<std::int32_t>(i % classes);
    const auto x = static_cast<float>(i % 7);
    const Detection found[] = {{{x, 0, x + 20, 20}, 0.2f + 0.02f * static_cast<float>(i), c}};
    const LabelledBox labels[] = {{c, {0, 0, 20, 20}}};
    metrics.add(found, labels);
  }
  return metrics.compute();
}

TEST(ResultCharts, TrainingAndValidationShareAChart) {
  const ResultsTable table{
      .columns = {"epoch", "train/box_loss", "val/box_loss", "metrics/mAP50", "x/lr0", "x/lr1"},
      .rows = {{0, 1, 2, 3, 4, 5}, {1, 0.5, 1, 0.1, 4, 5}}};
  const auto charts = result_charts(table);
  ASSERT_EQ(charts.size(), 3u);
  EXPECT_EQ(charts[0].title, "box_loss");
  ASSERT_EQ(charts[0].series.size(), 2u);
  EXPECT_EQ(charts[0].series[1].name, "val");
  EXPECT_EQ(charts[0].series[1].y, (std::vector<double>{2, 1}));
  EXPECT_EQ(charts[1].title, "mAP50");
  EXPECT_EQ(charts[2].title, "learning rate");
  EXPECT_EQ(charts[2].series.size(), 2u);
}

TEST(Plots, ResultsAreDrawnFromTheFirstRowOn) {
  TempDir folder;
  ResultsTable table{.columns = {"epoch", "train/box_loss", "metrics/mAP50"}, .rows = {}};
  plot_results(table, folder.file("empty.png"));
  table.rows.push_back({0, 0.5, NAN});
  plot_results(table, folder.file("one.png"));
  for (int i = 1; i < 50; ++i) table.rows.push_back({double(i), 0.5 / i, 1 - 1.0 / i});
  plot_results(table, folder.file("many.png"));
  EXPECT_GT(colours(folder.file("empty.png")), 1u);
  EXPECT_GT(colours(folder.file("one.png")), colours(folder.file("empty.png")));
  EXPECT_GT(colours(folder.file("many.png")), 10u);
}

TEST(Plots, CurvesAreDrawnForFewAndManyClassesAndForNone) {
  TempDir folder;
  const std::vector<std::string> names{"a class with quite a long name", "b"};
  for (const int classes : {1, 3, 30}) {
    for (const auto curve :
         {Curve::PrecisionByRecall, Curve::F1, Curve::Precision, Curve::Recall}) {
      plot_curve(some_scores(classes), curve, names, folder.file("curve.png"));
      EXPECT_GT(colours(folder.file("curve.png")), 10u);
    }
  }
  plot_curve({}, Curve::F1, names, folder.file("none.png"));
  EXPECT_GT(colours(folder.file("none.png")), 1u);
}

TEST(Plots, MatrixHoldsTheBackground) {
  ConfusionMatrix matrix(2);
  const Detection found[] = {{{0, 0, 10, 10}, 0.9f, 1}};
  const LabelledBox labels[] = {{1, {0, 0, 10, 10}}, {0, {50, 50, 60, 60}}};
  matrix.add(found, labels);
  const std::vector<std::string> names{"cat", "dog"};
  const auto plot = matrix_plot(matrix, names);
  EXPECT_EQ(plot.names, (std::vector<std::string>{"cat", "dog", "background"}));
  EXPECT_EQ(plot.cells, (std::vector<double>{0, 0, 0, 0, 1, 0, 1, 0, 0}));
  TempDir folder;
  plot_matrix(plot, folder.file("matrix.png"));
  EXPECT_GT(colours(folder.file("matrix.png")), 10u);
  plot_matrix(matrix_plot(ConfusionMatrix(200), names), folder.file("large.png"));
  EXPECT_GT(colours(folder.file("large.png")), 1u);
}

TEST(Plots, MatrixOfAClassifierHasNoBackground) {
  ClassificationMetrics metrics(3);
  metrics.add(torch::eye(3), torch::tensor({0, 1, 0}));
  const std::vector<std::string> names{"cat", "dog"};
  const auto plot = matrix_plot(metrics.compute(), names);
  EXPECT_EQ(plot.size, 3);
  EXPECT_EQ(plot.names, (std::vector<std::string>{"cat", "dog", "2"}));
  EXPECT_EQ(plot.cells, (std::vector<double>{1, 0, 0, 0, 1, 0, 1, 0, 0}));
  TempDir folder;
  plot_matrix(matrix_plot(ClassificationMetrics(1000).compute(), names), folder.file("many.png"));
  EXPECT_LT(cv::imread(folder.file("many.png")).cols, 3000);
  EXPECT_THROW(plot_matrix(matrix_plot(ClassificationMetrics(2002).compute(), names), "x.png"),
               std::invalid_argument);
}

TEST(Plots, SmallPicturesAreEnlargedForTheirWords) {
  TempDir folder;
  std::vector<std::uint8_t> grey(std::size_t{32} * 32 * 3, 128);
  const Picture small{.pixels = {grey.data(), 32, 32, 32 * 3}, .boxes = {}, .caption = {}};
  draw_grid(std::vector<Picture>(4, small), {}, folder.file("grid.png"));
  EXPECT_GE(cv::imread(folder.file("grid.png")).cols, 2 * 320);
}

TEST(Plots, KeptPicturesAreBroughtDownWithTheirBoxes) {
  std::vector<std::uint8_t> grey(std::size_t{200} * 100 * 3, 90);
  const Picture large{.pixels = {grey.data(), 200, 100, 600},
                      .boxes = {{{20, 10, 100, 60}, 1, 0.5f}},
                      .caption = "x"};
  KeptPicture kept = keep_picture(large, 50);
  grey.assign(grey.size(), 0);
  EXPECT_EQ(kept.pixels.width(), 50);
  EXPECT_EQ(kept.pixels.height(), 25);
  EXPECT_EQ(kept.view().pixels.row(24)[149], 90);
  EXPECT_EQ(kept.boxes[0].box, (BoxF{5, 2.5f, 25, 15}));
  EXPECT_EQ(kept.caption, "x");
  EXPECT_EQ(keep_picture(large, 640).pixels.width(), 200);
}

TEST(Plots, ACaptionIsDrawnOnAPicture) {
  TempDir folder;
  std::vector<std::uint8_t> grey(std::size_t{64} * 64 * 3, 128);
  Picture picture{.pixels = {grey.data(), 64, 64, 64 * 3}, .boxes = {}, .caption = "cat 0.90"};
  draw_picture(picture, {}, folder.file("one.png"));
  EXPECT_GT(colours(folder.file("one.png")), 2u);
}

TEST(Plots, TicksOfCountedThingsAreWhole) {
  EXPECT_EQ(plotting::round_ticks({0, 2}, 6, 1), (std::vector<double>{0, 1, 2}));
  EXPECT_GT(plotting::round_ticks({0, 2}, 6).size(), 3u);
}

TEST(Plots, TicksThatLieCloseAreToldApart) {
  for (const double step : {1e-5, 1e-6, 2e-7}) {
    EXPECT_NE(plotting::tick_text(0.0123450 + step, step), plotting::tick_text(0.012345, step));
  }
  EXPECT_NE(plotting::tick_text(1234000, 1000), plotting::tick_text(1235000, 1000));
}

TEST(Plots, BoxesAreDrawnOnPictures) {
  TempDir folder;
  std::vector<std::uint8_t> grey(std::size_t{64} * 48 * 3, 128);
  Picture picture{.pixels = {grey.data(), 64, 48, 64 * 3}, .boxes = {}, .caption = {}};
  draw_picture(picture, {}, folder.file("bare.png"));
  EXPECT_EQ(colours(folder.file("bare.png")), 1u);
  picture.boxes = {{{10, 10, 40, 40}, 0, 0.5f}, {{-20, -5, 900, 700}, 3, -1}};
  draw_picture(picture, {}, folder.file("boxes.png"));
  EXPECT_GT(colours(folder.file("boxes.png")), 2u);
  EXPECT_EQ(grey, std::vector<std::uint8_t>(grey.size(), 128)) << "the source was drawn on";
  const std::vector<Picture> pictures(5, picture);
  draw_grid(pictures, {}, folder.file("grid.jpg"), 300);
  const cv::Mat grid = cv::imread(folder.file("grid.jpg"));
  EXPECT_LE(std::max(grid.cols, grid.rows), 330);
  draw_comparison(pictures, std::vector<std::vector<PictureBox>>(3), {}, folder.file("pairs.jpg"));
  EXPECT_GT(colours(folder.file("pairs.jpg")), 2u);
}

TEST(Plots, PicturesOfABatchLookAtItsMemory) {
  TensorBatch batch;
  batch.images = torch::zeros({3, 8, 16, 3}, torch::kByte).permute({0, 3, 1, 2});
  batch.images[1].fill_(200);
  batch.targets = torch::tensor({1.0, 4.0, 0.5, 0.5, 0.5, 0.5}).view({1, 6});
  const auto pictures = pictures_of(batch, 2);
  ASSERT_EQ(pictures.size(), 2u);
  EXPECT_EQ(pictures[1].pixels.width, 16);
  EXPECT_EQ(pictures[1].pixels.row(7)[47], 200);
  ASSERT_EQ(pictures[1].boxes.size(), 1u);
  EXPECT_EQ(pictures[1].boxes[0].box, (BoxF{4, 2, 12, 6}));
  EXPECT_EQ(pictures[1].boxes[0].class_id, 4);
  EXPECT_TRUE(pictures[0].boxes.empty());
}

TEST(Plots, SayWhereAPictureCannotBeWritten) {
  TempDir folder;
  for (const std::string name : {"no/such/folder.png", "unknown.xyz"}) {
    try {
      plot_charts({}, 1, folder.file(name));
      FAIL() << "no error for " << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
}

class ManyBoxes : public Dataset {
 public:
  std::int64_t size() const override { return 5000; }
  Record record(std::int64_t index, RecordScratch&) const override {
    Record r;
    if (index > 0) r.boxes = boxes_;
    return r;
  }
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t) const override { return {}; }

 private:
  std::vector<std::string> names_{"a", "b"};
  std::vector<Box> boxes_{{1, 0.99f, 0.5f, 1.0f, 0.25f}};
};

TEST(LabelStatistics, CountBoxesInBoundedMemory) {
  const auto s = label_statistics(ManyBoxes());
  EXPECT_EQ(s.boxes, 4999);
  EXPECT_EQ(s.without_boxes, 1);
  EXPECT_EQ(s.per_class, (std::vector<std::int64_t>{0, 4999}));
  EXPECT_EQ(s.centers[32 * LabelStatistics::kBins + 63], 4999);
  EXPECT_EQ(s.sizes[16 * LabelStatistics::kBins + 63], 4999);
  EXPECT_GE(s.examples.size(), 400u);
  EXPECT_LE(s.examples.size(), 1000u);
  TempDir folder;
  const std::vector<std::string> names{"a", "b"};
  plot_labels(s, names, folder.file("labels.png"));
  EXPECT_GT(colours(folder.file("labels.png")), 10u);
}

}  // namespace
}  // namespace brim::test
