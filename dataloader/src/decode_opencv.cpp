#include "decode_opencv.h"

#include <algorithm>
#include <cstring>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "decode_png.h"

namespace brim::detail {
namespace {

/// Exchanges the first and third channel of `picture`, a few rows at a time.
void bgr_to_rgb(cv::Mat& picture) {
  for (int y = 0; y < picture.rows; y += 64) {
    cv::Mat rows = picture.rowRange(y, std::min(y + 64, picture.rows));
    cv::cvtColor(rows.clone(), rows, cv::COLOR_BGR2RGB);
  }
}

/// OpenCV's error text without its source position.
std::string reason(const cv::Exception& error) {
  return error.err.empty() ? std::string(error.what()) : error.err;
}

}  // namespace

void OpenCvDecoder::decode(Bytes file, const HeaderInfo& header, Image& image) {
  if (header.format == Format::Png) {
    // Asked before libpng would print it: a few percent of the decode.
    if (const std::string why = png_damage(file); !why.empty()) {
      throw DecodeError("damaged png: " + why);
    }
  }
  const Bytes input = header.format == Format::Png ? essential_png(file, clean_) : file;
  if (input.size() > static_cast<std::size_t>(INT_MAX)) {
    throw DecodeError(header.name + " of more than 2 GiB");
  }
  const cv::Mat encoded(1, static_cast<int>(input.size()), CV_8UC1,
                        const_cast<std::byte*>(input.data()));
  // OpenCV decodes into our memory as long as header and decoder agree about the size.
  const bool swapped = header.decoder_orients && header.orientation > 4;
  image.resize(static_cast<int>(swapped ? header.height : header.width),
               static_cast<int>(swapped ? header.width : header.height));
  std::uint8_t* const memory = image.mutable_view().data;
  cv::Mat picture(image.height(), image.width(), CV_8UC3, memory);
  try {
    picture = cv::imdecode(encoded, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION, &picture);
  } catch (const cv::Exception& error) {
    throw DecodeError("damaged " + header.name + ": " + reason(error));
  }
  if (picture.empty() || picture.type() != CV_8UC3) {
    const std::string why =
        header.truncated.empty() ? "its pixels cannot be read" : header.truncated;
    throw DecodeError("damaged " + header.name + ": " + why);
  }
  if (picture.cols != image.width() || picture.rows != image.height()) {
    throw DecodeError("damaged " + header.name + ": header and pixels differ in size");
  }
  cv::Mat result(image.height(), image.width(), CV_8UC3, memory);
  if (picture.data != memory) picture.copyTo(result);
  bgr_to_rgb(result);
  if (clean_.capacity() > (std::size_t{4} << 20)) clean_ = {};
}

}  // namespace brim::detail
