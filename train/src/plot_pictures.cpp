#include <algorithm>
#include <cmath>
#include <cstdio>
#include <opencv2/imgproc.hpp>

#include "brim/train/plots.h"
#include "plot_canvas.h"

namespace brim {
namespace {

using namespace plotting;

cv::Mat pixels_of(const ImageView& view) {
  // The Mat is only read from.
  return cv::Mat(view.height, view.width, CV_8UC3, const_cast<std::uint8_t*>(view.data),
                 static_cast<std::size_t>(view.stride));
}

struct Style {
  int line = 1;
  double font = 0.4;
  int stroke = 1;  ///< of letters
};

/// For a picture that is looked at as a whole, whatever its side.
Style style_for(int side) {
  const double font = std::clamp(side / 1000.0, 0.34, 8.0);
  return {.line = std::max(1, static_cast<int>(std::lround(side / 400.0))),
          .font = font,
          .stroke = std::max(1, static_cast<int>(std::lround(font * 1.2)))};
}

/// Letters on a filled ground, kept inside the picture.
void draw_tag(cv::Mat& image, const std::string& words, cv::Point corner, Color ground,
              const Style& style) {
  int below = 0;
  const cv::Size size =
      cv::getTextSize(words, cv::FONT_HERSHEY_SIMPLEX, style.font, style.stroke, &below);
  const int height = size.height + below + 2;
  corner.x = std::clamp(corner.x, 0, std::max(0, image.cols - size.width - 4));
  corner.y = std::clamp(corner.y - height, 0, std::max(0, image.rows - height));
  const cv::Rect rect =
      cv::Rect(corner.x, corner.y, size.width + 4, height) & cv::Rect(0, 0, image.cols, image.rows);
  if (rect.empty()) return;
  image(rect).setTo(ink(ground));
  const double light = 0.299 * ground.r + 0.587 * ground.g + 0.114 * ground.b;
  cv::putText(image, words, {corner.x + 2, corner.y + size.height + 1}, cv::FONT_HERSHEY_SIMPLEX,
              style.font, ink(light > 150 ? kInk : kWhite), style.stroke, cv::LINE_AA);
}

std::string tag_of(const PictureBox& b, std::span<const std::string> names) {
  const auto i = static_cast<std::size_t>(b.class_id);
  std::string words = i < names.size() ? names[i] : std::to_string(b.class_id);
  if (b.confidence >= 0) {
    char text[16];
    std::snprintf(text, sizeof text, " %.2f", static_cast<double>(b.confidence));
    words += text;
  }
  return words;
}

void draw_boxes(cv::Mat& image, std::span<const PictureBox> boxes,
                std::span<const std::string> names, double scale, const Style& style) {
  const auto whole = [&](float v) {
    return static_cast<int>(std::lround(static_cast<double>(v) * scale));
  };
  for (const bool tags : {false, true}) {  // no box is drawn over a name
    for (const PictureBox& b : boxes) {
      const Color color = series_color(static_cast<std::size_t>(std::max(b.class_id, 0)));
      const cv::Point low(whole(b.box.x1), whole(b.box.y1)), high(whole(b.box.x2), whole(b.box.y2));
      if (tags) {
        draw_tag(image, tag_of(b, names), low, color, style);
      } else {
        cv::rectangle(image, low, high, ink(color), style.line, cv::LINE_AA);
      }
    }
  }
}

/// Cells of one size, `columns` to a row, with a white gap.
class Sheet {
 public:
  Sheet(std::size_t count, int columns, cv::Size cell) : columns_(columns), cell_(cell) {
    const int rows = (static_cast<int>(count) + columns - 1) / columns;
    pixels_ = cv::Mat(rows * (cell.height + kGap) + kGap, columns * (cell.width + kGap) + kGap,
                      CV_8UC3, cv::Scalar(255, 255, 255));
  }
  /// A picture brought into the next cell, with its boxes and caption.
  void add(const ImageView& pixels, std::span<const PictureBox> boxes, const std::string& caption,
           std::span<const std::string> names) {
    cv::Mat tile = next_cell();
    tile.setTo(cv::Scalar(245, 245, 245));
    if (pixels.width <= 0 || pixels.height <= 0) return;
    const double scale = std::min(static_cast<double>(cell_.width) / pixels.width,
                                  static_cast<double>(cell_.height) / pixels.height);
    const cv::Size size(
        std::clamp(static_cast<int>(std::lround(pixels.width * scale)), 1, cell_.width),
        std::clamp(static_cast<int>(std::lround(pixels.height * scale)), 1, cell_.height));
    cv::Mat part = tile(cv::Rect((cell_.width - size.width) / 2, (cell_.height - size.height) / 2,
                                 size.width, size.height));
    cv::resize(pixels_of(pixels), part, size, 0, 0, scale < 1 ? cv::INTER_AREA : cv::INTER_LINEAR);
    const Style style = style_for(std::max(cell_.width, cell_.height));
    draw_boxes(part, boxes, names, scale, style);
    if (!caption.empty()) draw_tag(tile, caption, {0, cell_.height}, {60, 60, 60}, style);
  }
  void write(const std::string& path) const { write_picture(pixels_, path); }

 private:
  static constexpr int kGap = 4;
  cv::Mat next_cell() {
    const cv::Point corner(kGap + added_ % columns_ * (cell_.width + kGap),
                           kGap + added_ / columns_ * (cell_.height + kGap));
    ++added_;
    return pixels_(cv::Rect(corner, cell_));
  }

  int columns_, added_ = 0;
  cv::Size cell_;
  cv::Mat pixels_;
};

/// Size of a cell so that `columns` of the widest picture fit into `side`. Small pictures are
/// enlarged: words take as many pixels on them as on others.
cv::Size cell_size(std::span<const Picture> pictures, int columns, int rows, int side) {
  constexpr double kRoomForWords = 400;
  int width = 1, height = 1;
  for (const Picture& p : pictures) {
    width = std::max(width, p.pixels.width);
    height = std::max(height, p.pixels.height);
  }
  const double enlarged = std::max(1.0, kRoomForWords / std::max(width, height));
  const double scale = std::min({enlarged, static_cast<double>(side) / (columns * width),
                                 static_cast<double>(side) / (rows * height)});
  return {std::max(1, static_cast<int>(width * scale)),
          std::max(1, static_cast<int>(height * scale))};
}

}  // namespace

std::vector<PictureBox> picture_boxes(std::span<const Detection> detections) {
  std::vector<PictureBox> result;
  for (const Detection& d : detections) result.push_back({d.box, d.class_id, d.confidence});
  return result;
}

KeptPicture keep_picture(const Picture& picture, int side) {
  const ImageView& in = picture.pixels;
  const double scale =
      std::min(1.0, static_cast<double>(side) / std::max({in.width, in.height, 1}));
  KeptPicture kept{.pixels = {}, .boxes = picture.boxes, .caption = picture.caption};
  if (in.width <= 0 || in.height <= 0) return kept;
  kept.pixels.resize(std::max(1, static_cast<int>(std::lround(in.width * scale))),
                     std::max(1, static_cast<int>(std::lround(in.height * scale))));
  cv::Mat out = pixels_of(kept.pixels.view());
  cv::resize(pixels_of(in), out, out.size(), 0, 0, cv::INTER_AREA);
  const auto by = static_cast<float>(scale);
  for (PictureBox& box : kept.boxes)
    box.box = {box.box.x1 * by, box.box.y1 * by, box.box.x2 * by, box.box.y2 * by};
  return kept;
}

std::vector<Picture> views(std::span<const KeptPicture> pictures) {
  std::vector<Picture> result;
  for (const KeptPicture& picture : pictures) result.push_back(picture.view());
  return result;
}

std::vector<Picture> pictures_of(const TensorBatch& batch, std::int64_t most) {
  const auto& images = batch.images;
  const std::int64_t count = std::min(batch.size(), most);
  const auto width = static_cast<int>(images.defined() ? images.size(3) : 0);
  const auto height = static_cast<int>(images.defined() ? images.size(2) : 0);
  std::vector<Picture> result(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    result[static_cast<std::size_t>(i)].pixels = {
        images.data_ptr<std::uint8_t>() + i * images.stride(0), width, height, images.stride(2)};
  }
  if (!batch.targets.defined()) return result;
  const auto rows = batch.targets.to(torch::kCPU, torch::kFloat).contiguous();
  for (std::int64_t r = 0; r < rows.size(0); ++r) {
    const float* t = rows.data_ptr<float>() + r * 6;
    const auto image = static_cast<std::size_t>(t[0]);
    if (image >= result.size()) continue;
    result[image].boxes.push_back(
        {box_to_pixels(t[2], t[3], t[4], t[5], {width, height}), static_cast<std::int32_t>(t[1])});
  }
  return result;
}

void draw_grid(std::span<const Picture> pictures, std::span<const std::string> class_names,
               const std::string& path, int side) {
  const auto count = std::max<std::size_t>(pictures.size(), 1);
  const int columns = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  const int rows = (static_cast<int>(count) + columns - 1) / columns;
  const cv::Size cell = cell_size(pictures, columns, rows, side);
  Sheet sheet(count, columns, cell);
  for (const Picture& p : pictures) sheet.add(p.pixels, p.boxes, p.caption, class_names);
  sheet.write(path);
}

void draw_comparison(std::span<const Picture> pictures,
                     std::span<const std::vector<PictureBox>> found,
                     std::span<const std::string> class_names, const std::string& path, int side) {
  const auto count = std::max<std::size_t>(pictures.size(), 1);
  const int pairs = count > 2 ? 2 : 1;
  const int rows = (static_cast<int>(count) + pairs - 1) / pairs;
  const cv::Size cell = cell_size(pictures, pairs * 2, rows, side);
  Sheet sheet(2 * count, pairs * 2, cell);
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const Picture& p = pictures[i];
    const std::string ending = p.caption.empty() ? "" : "  " + p.caption;
    sheet.add(p.pixels, p.boxes, "labels" + ending, class_names);
    const std::span<const PictureBox> boxes =
        i < found.size() ? std::span<const PictureBox>(found[i]) : std::span<const PictureBox>();
    sheet.add(p.pixels, boxes, "found" + ending, class_names);
  }
  sheet.write(path);
}

void draw_picture(const Picture& picture, std::span<const std::string> class_names,
                  const std::string& path) {
  cv::Mat image = pixels_of(picture.pixels).clone();
  const Style style = style_for(std::max(image.cols, image.rows));
  draw_boxes(image, picture.boxes, class_names, 1, style);
  if (!picture.caption.empty())
    draw_tag(image, picture.caption, {0, image.rows}, {60, 60, 60}, style);
  write_picture(image, path);
}

}  // namespace brim
