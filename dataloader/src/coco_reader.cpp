#include "coco_reader.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

using Json = nlohmann::json;

enum class List : std::uint8_t { None, Images, Annotations, Categories };

/// Receives the parser's events. Depth 1 is the file's object, 2 one of its lists, 3 one item.
class Handler : public nlohmann::json_sax<Json> {
 public:
  explicit Handler(const std::string& file) : file_(file) {}
  CocoContent take() { return std::move(content_); }
  bool saw_images() const { return saw_images_; }

  bool null() override { return scalar(); }
  bool boolean(bool value) override { return number(value ? 1 : 0); }
  bool number_integer(number_integer_t value) override { return whole(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      return number(static_cast<double>(value));
    }
    return whole(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return number(value); }
  bool binary(binary_t&) override { return scalar(); }

  bool string(string_t& value) override {
    if (depth_ == 3) {
      if (list_ == List::Images && key_ == "file_name") name_ = value;
      if (list_ == List::Categories && key_ == "name") name_ = value;
    }
    return scalar();
  }

  bool start_object(std::size_t) override {
    ++depth_;
    if (depth_ == 3 && list_ != List::None) begin_item();
    return true;
  }
  bool end_object() override {
    if (depth_ == 3 && list_ != List::None) end_item();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) fail("is a list: results, not annotations");
    ++depth_;
    if (depth_ == 5 && in_segmentation()) content_.outlines.push_back({content_.points.size(), 0});
    return true;
  }
  bool end_array() override {
    if (depth_ == 5 && in_segmentation()) end_outline();
    --depth_;
    if (depth_ == 1) list_ = List::None;
    return true;
  }
  bool key(string_t& value) override {
    if (depth_ == 1) {
      list_ = value == "images"        ? List::Images
              : value == "annotations" ? List::Annotations
              : value == "categories"  ? List::Categories
                                       : List::None;
      saw_images_ |= list_ == List::Images;
    }
    if (depth_ == 3) key_ = value;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& e) override {
    std::string text = e.what();
    const std::size_t end = text.find("] ");
    fail("broken JSON: " + (end == std::string::npos ? text : text.substr(end + 2)));
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(message, {.file = file_},
                "a COCO file is an object with 'images', 'annotations' and 'categories'");
  }
  bool scalar() const {
    if (depth_ == 0) fail("holds no annotations");
    return true;
  }
  bool in_segmentation() const { return list_ == List::Annotations && key_ == "segmentation"; }

  bool whole(std::int64_t value) {
    if (depth_ == 3) {
      if (key_ == "id") id_ = value;
      if (key_ == "image_id") image_ = value;
      if (key_ == "category_id") category_ = value;
    }
    return number(static_cast<double>(value));
  }

  bool number(double value) {
    if (depth_ == 3 && list_ == List::Images) {
      // A size that is no size is looked up in the picture itself.
      const bool usable = value >= 1 && value <= 1e6;
      if (key_ == "width") width_ = usable ? static_cast<std::int32_t>(value) : 0;
      if (key_ == "height") height_ = usable ? static_cast<std::int32_t>(value) : 0;
    } else if (depth_ == 3 && list_ == List::Annotations && key_ == "iscrowd") {
      annotation_.crowd = value != 0;
    } else if (depth_ == 4 && list_ == List::Annotations && key_ == "bbox") {
      if (annotation_.box_numbers < 4) annotation_.box[annotation_.box_numbers] = value;
      ++annotation_.box_numbers;
    } else if (depth_ == 5 && in_segmentation()) {
      content_.points.push_back(static_cast<float>(value));
    }
    return scalar();
  }

  void begin_item() {
    id_.reset(), image_.reset(), category_.reset(), name_.reset();
    width_ = height_ = 0;
    annotation_ = {};
    annotation_.first_polygon = content_.outlines.size();
    key_.clear();
  }

  void end_outline() {
    CocoContent::Outline& outline = content_.outlines[content_.outlines.size() - 1];
    outline.count = content_.points.size() - outline.first;
    if (outline.count >= 6 && outline.count % 2 == 0) return;
    content_.points.resize(outline.first);  // not an outline
    content_.outlines.resize(content_.outlines.size() - 1);
  }

  std::string ordinal(std::size_t number) const { return std::to_string(number + 1); }

  void end_item() {
    if (list_ == List::Images) {
      if (!id_) fail("image " + ordinal(content_.images.size()) + " has no whole-number id");
      if (!name_ || name_->empty() || name_->find('\0') != std::string::npos) {
        fail("image " + std::to_string(*id_) + " has no file_name");
      }
      content_.images.push_back({*id_, content_.names.size(),
                                 static_cast<std::uint32_t>(name_->size()), width_, height_});
      content_.names.append(name_->data(), name_->size());
    } else if (list_ == List::Categories) {
      if (!id_) fail("category " + ordinal(content_.categories.size()) + " has no id");
      content_.categories.push_back({*id_, name_.value_or(std::to_string(*id_))});
    } else {
      if (!image_ || !category_) {
        fail("annotation " + ordinal(content_.annotations.size()) +
             " has no image_id or no category_id");
      }
      annotation_.id = id_.value_or(-1);
      annotation_.image = *image_;
      annotation_.category = *category_;
      annotation_.polygons =
          static_cast<std::uint32_t>(content_.outlines.size() - annotation_.first_polygon);
      content_.annotations.push_back(annotation_);
    }
  }

  const std::string& file_;
  CocoContent content_{};
  int depth_ = 0;
  List list_ = List::None;
  bool saw_images_ = false;
  std::string key_{};
  std::optional<std::int64_t> id_{}, image_{}, category_{};
  std::optional<std::string> name_{};
  std::int32_t width_ = 0, height_ = 0;
  CocoContent::Annotation annotation_{};
};

}  // namespace

CocoContent read_coco(std::istream& in, const std::string& file) {
  Handler handler(file);
  Json::sax_parse(in, &handler);
  if (!handler.saw_images()) {
    throw Error("has no 'images'", {.file = file},
                "a COCO file is an object with 'images', 'annotations' and 'categories'");
  }
  return handler.take();
}

}  // namespace brim::detail
