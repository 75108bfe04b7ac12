#include "label_rows.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"

namespace brim::detail {
namespace {

constexpr float kRounding = 1e-4f;  ///< how far outside [0, 1] a writer's rounding may leave

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

std::string shown(std::string_view token) {
  std::string text;
  for (const char c : token.substr(0, 24)) text += c >= ' ' && c <= '~' ? c : '?';
  return "'" + text + (token.size() > 24 ? "...'" : "'");
}

/// The numbers of one row, or why there are none.
struct Row {
  std::vector<float> numbers;
  std::string problem;
};

void read_numbers(std::string_view line, Row& row) {
  row.numbers.clear();
  row.problem.clear();
  const char* at = line.data();
  const char* const end = at + line.size();
  while (true) {
    while (at != end && is_blank(*at)) ++at;
    if (at == end) return;
    const char* stop = at;
    while (stop != end && !is_blank(*stop)) ++stop;
    const std::string_view token(at, static_cast<std::size_t>(stop - at));
    if (*at == '+' && stop - at > 1 && at[1] != '-') ++at;
    float value = 0;
    const auto [parsed, error] = std::from_chars(at, stop, value);
    if (error == std::errc::result_out_of_range && parsed == stop) {
      // Too small to tell from zero, or too large for any coordinate: strtod knows which.
      value = static_cast<float>(std::strtod(std::string(at, stop).c_str(), nullptr));
    } else if (error != std::errc() || parsed != stop) {
      row.problem = shown(token) + " is not a number";
      if (token.find(',') != std::string_view::npos) row.problem += " (separate with spaces)";
      return;
    }
    if (!std::isfinite(value)) {
      row.problem = shown(token) + " is not a finite number";
      return;
    }
    row.numbers.push_back(value);
    at = stop;
  }
}

std::string number_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
  return text;
}

/// Moves what rounding put just outside back into [0, 1]; says what lies further out.
std::string bring_into_range(Row& row) {
  for (std::size_t i = 1; i < row.numbers.size(); ++i) {
    float& value = row.numbers[i];
    if (value < -kRounding || value > 1 + kRounding) {
      return "coordinate " + number_text(value) +
             " is outside [0, 1] (coordinates are fractions of the image, not pixels)";
    }
    value = std::clamp(value, 0.0f, 1.0f);
  }
  return {};
}

Box polygon_extent(const float* points, std::size_t count) {
  float left = 1, right = 0, top = 1, bottom = 0;
  for (std::size_t i = 0; i + 1 < count; i += 2) {
    left = std::min(left, points[i]);
    right = std::max(right, points[i]);
    top = std::min(top, points[i + 1]);
    bottom = std::max(bottom, points[i + 1]);
  }
  return {0, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top};
}

/// Why `row` is no label, or nothing; `box` is filled, class excepted.
std::string to_box(Row& row, Box& box) {
  if (!row.problem.empty()) return row.problem;
  const std::size_t count = row.numbers.size();
  if (count != 5 && (count < 7 || count % 2 == 0)) {
    std::string text =
        "expected 5 numbers (class cx cy width height) or a polygon (class x1 y1 "
        "x2 y2 x3 y3 ...), found " +
        std::to_string(count);
    if (count == 6) text += " (a prediction with its confidence?)";
    return text;
  }
  const float class_id = row.numbers[0];
  if (class_id != std::floor(class_id)) {
    return "class " + number_text(class_id) + " is not a whole number";
  }
  if (std::string problem = bring_into_range(row); !problem.empty()) return problem;
  const float* n = row.numbers.data() + 1;
  box = count == 5 ? Box{0, n[0], n[1], n[2], n[3]} : polygon_extent(n, count - 1);
  if (box.width <= 0 || box.height <= 0) return "box without area";
  return {};
}

void check_class(float class_id, std::int64_t classes, const std::string& file, std::int64_t line) {
  const double limit = classes < 0 ? 1e6 : static_cast<double>(classes);
  if (class_id >= 0 && class_id < limit) return;
  std::string range =
      classes < 0 ? std::string("class numbers begin at 0")
      : classes == 0
          ? std::string("the dataset names no classes")
          : "the dataset names " + std::to_string(classes) + " class" +
                (classes == 1 ? " (0)" : "es (0 to " + std::to_string(classes - 1) + ")");
  throw Error("class " + number_text(class_id) + " is out of range: " + range,
              {.file = file, .line = line},
              "add the class to 'names' of the data file, or correct the label");
}

bool same_box(const Box& a, const Box& b) {
  return a.class_id == b.class_id && a.cx == b.cx && a.cy == b.cy && a.width == b.width &&
         a.height == b.height;
}

/// One file's rows while they are gathered.
class FileRows {
 public:
  FileRows(LabelRows& out, std::int64_t classes, const std::string& file)
      : out_(out), classes_(classes), file_(file), first_(out.boxes.size()) {}

  void add(std::string_view line, std::int64_t number) {
    read_numbers(line, row_);
    if (row_.problem.empty() && row_.numbers.empty()) return;
    ++out_.rows;
    Box box;
    if (std::string problem = to_box(row_, box); !problem.empty()) {
      out_.problems.push_back({number, problem + "; row rejected", true});
      return;
    }
    check_class(row_.numbers[0], classes_, file_, number);
    box.class_id = static_cast<std::int32_t>(row_.numbers[0]);
    if (const std::int64_t earlier = line_of_equal(box); earlier > 0) {
      out_.problems.push_back(
          {number, "same as line " + std::to_string(earlier) + "; row dropped", false});
      return;
    }
    lines_.push_back(number);
    if (row_.numbers.size() > 5) {
      const auto index = static_cast<std::uint32_t>(out_.boxes.size() - first_);
      const auto count = static_cast<std::uint32_t>(row_.numbers.size() - 1);
      out_.polygons.push_back({index, count, out_.points.size()});
      out_.points.insert(out_.points.end(), row_.numbers.begin() + 1, row_.numbers.end());
    }
    out_.boxes.push_back(box);
  }

 private:
  /// Line of an earlier equal box, 0: none. Few boxes are compared one by one, many are hashed.
  std::int64_t line_of_equal(const Box& box) {
    const std::size_t count = lines_.size();
    if (count < kFew) {
      for (std::size_t i = 0; i < count; ++i) {
        if (same_box(out_.boxes[first_ + i], box)) return lines_[i];
      }
      return 0;
    }
    for (; hashed_ < count; ++hashed_)
      by_hash_.emplace(hash(out_.boxes[first_ + hashed_]), hashed_);
    const auto [from, to] = by_hash_.equal_range(hash(box));
    for (auto it = from; it != to; ++it) {
      if (same_box(out_.boxes[first_ + it->second], box)) return lines_[it->second];
    }
    return 0;
  }
  static std::uint64_t hash(const Box& box) {
    const float values[4] = {box.cx, box.cy, box.width, box.height};
    std::uint64_t key = mix64(static_cast<std::uint64_t>(box.class_id));
    for (const float value : values) {
      key = mix64(key, std::bit_cast<std::uint32_t>(value + 0.0f));  // -0 becomes 0
    }
    return key;
  }
  static constexpr std::size_t kFew = 24;

  LabelRows& out_;
  std::int64_t classes_;
  const std::string& file_;
  std::size_t first_;
  std::vector<std::int64_t> lines_{};  ///< line of each box of the file
  std::unordered_multimap<std::uint64_t, std::size_t> by_hash_{};
  std::size_t hashed_ = 0;
  Row row_{};
};

}  // namespace

void parse_label_rows(std::string_view text, const std::string& file, std::int64_t classes,
                      LabelRows& out) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  FileRows rows(out, classes, file);
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find_first_of("\n\r");
    rows.add(text.substr(0, end), number);
    if (end == std::string_view::npos) return;
    const bool two = text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (two ? 2 : 1));
  }
}

}  // namespace brim::detail
