#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/image.h"
#include "brim/dataloader/letterbox.h"
#include "brim/dataloader/torch/tensor_batch.h"
#include "brim/train/classification_metrics.h"
#include "brim/train/detection_metrics.h"

// Plots and pictures of a run folder, drawn with OpenCV. Every function writes one file whose
// ending says the format (.png, .jpg) and throws Error where that cannot be written.
namespace brim {

/// One line of a chart; points that are not finite are left out.
struct Series {
  std::string name{};
  std::vector<double> x{}, y{};
};

struct Chart {
  std::string title{}, x_label{}, y_label{};
  std::vector<Series> series{};
};

/// Charts in a grid of `columns`.
void plot_charts(std::span<const Chart> charts, int columns, const std::string& path);

/// Columns by name over rows, the first column being the x axis (as results.csv has them).
struct ResultsTable {
  std::vector<std::string> columns{};
  std::vector<std::vector<double>> rows{};
};

/// One chart per quantity: "train/x" and "val/x" share one, so do all "x/lr..." columns.
std::vector<Chart> result_charts(const ResultsTable& table);
void plot_results(const ResultsTable& table, const std::string& path);

enum class Curve : std::uint8_t { PrecisionByRecall, F1, Precision, Recall };
/// A line per class (named up to 20 classes) and their mean; all but the first by confidence.
void plot_curve(const DetectionScores& scores, Curve curve,
                std::span<const std::string> class_names, const std::string& path);

/// A matrix of counts, `cells[row * size + column]`, row: predicted, column: true class, shown as
/// shares of each column. `names` has `size` entries.
struct MatrixPlot {
  int size = 0;
  std::vector<double> cells{};
  std::vector<std::string> names{};
};
MatrixPlot matrix_plot(const ConfusionMatrix& matrix, std::span<const std::string> class_names);
MatrixPlot matrix_plot(const ClassificationScores& scores,
                       std::span<const std::string> class_names);
/// Throws std::invalid_argument where there are more than kConfusionClasses.
void plot_matrix(const MatrixPlot& matrix, const std::string& path);

/// What the labels of a dataset look like; memory does not grow with the dataset.
struct LabelStatistics {
  static constexpr int kBins = 64;
  std::vector<std::int64_t> per_class{};
  std::vector<std::int64_t> centers{}, sizes{};  ///< kBins x kBins, row: y or height
  std::vector<Box> examples{};                   ///< some boxes, evenly spread
  std::int64_t boxes = 0, images = 0, without_boxes = 0;
};
LabelStatistics label_statistics(const Dataset& dataset);
void plot_labels(const LabelStatistics& statistics, std::span<const std::string> class_names,
                 const std::string& path);

/// A box to draw, in pixels of its picture.
struct PictureBox {
  BoxF box{};
  std::int32_t class_id = 0;
  float confidence = -1;  ///< shown where not negative
};

struct Picture {
  ImageView pixels{};
  std::vector<PictureBox> boxes{};
  std::string caption{};
};

/// A picture with pixels of its own, which outlives the batch that it was taken from.
struct KeptPicture {
  Image pixels{};
  std::vector<PictureBox> boxes{};
  std::string caption{};
  Picture view() const { return {pixels.view(), boxes, caption}; }
};
/// A copy of `picture`, brought down to at most `side` pixels.
KeptPicture keep_picture(const Picture& picture, int side);
/// The same pictures to draw; they look at the kept pixels.
std::vector<Picture> views(std::span<const KeptPicture> pictures);

/// The first `most` samples of a batch on the CPU with their targets; they look at its memory.
std::vector<Picture> pictures_of(const TensorBatch& batch, std::int64_t most = 16);
std::vector<PictureBox> picture_boxes(std::span<const Detection> detections);

/// Pictures side by side in a nearly square grid at most `side` pixels wide and high; small ones
/// are enlarged so that words find room.
void draw_grid(std::span<const Picture> pictures, std::span<const std::string> class_names,
               const std::string& path, int side = 1920);
/// Each picture twice: labels on the left, what was found on the right (boxes of `found[i]`).
void draw_comparison(std::span<const Picture> pictures,
                     std::span<const std::vector<PictureBox>> found,
                     std::span<const std::string> class_names, const std::string& path,
                     int side = 2560);
/// One picture in its own size, its caption at the lower edge.
void draw_picture(const Picture& picture, std::span<const std::string> class_names,
                  const std::string& path);

}  // namespace brim
