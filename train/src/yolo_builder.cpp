#include "yolo_builder.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

/// The result of a row, as the rows after it see it.
struct Map {
  std::int64_t channels = 0;
  double stride = 1;  ///< input pixels per step
};

class RowReader {
 public:
  RowReader(const ModelSpec& spec, const ModelRow& row) : spec_(spec), row_(row) {}

  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const {
    throw Error(message, {.file = spec_.file, .line = row_.line, .key = row_.module}, hint);
  }

  void accept_arguments(std::size_t least, std::size_t most, const std::string& meaning) const {
    if (row_.args.size() < least || row_.args.size() > most)
      fail("expected the arguments [" + meaning + "], found " + std::to_string(row_.args.size()));
  }

  /// Integer argument `i` in [least, most]; absent or None: `otherwise`.
  std::int64_t integer(std::size_t i, std::int64_t least, std::int64_t most,
                       std::optional<std::int64_t> otherwise = std::nullopt) const {
    if (otherwise && (i >= row_.args.size() || row_.args[i] == "None")) return *otherwise;
    const std::string& text = row_.args.at(i);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
      fail("argument " + std::to_string(i + 1) + " is '" + text +
           "', expected a whole number from " + std::to_string(least) + " to " +
           std::to_string(most));
    return value;
  }

  Shortcut shortcut(std::size_t i) const {
    if (i >= row_.args.size()) return Shortcut::Add;
    const std::string& text = row_.args[i];
    if (text == "True" || text == "true") return Shortcut::Add;
    if (text == "False" || text == "false") return Shortcut::None;
    fail("argument " + std::to_string(i + 1) + " is '" + text + "', expected True or False");
  }

  /// Output channels: argument 1 times width_multiple, rounded up to a multiple of 8.
  std::int64_t width() const {
    const auto wished = static_cast<double>(integer(0, 1, 65536));
    return static_cast<std::int64_t>(std::ceil(wished * spec_.width_multiple / 8)) * 8;
  }

  /// Repeats: number times depth_multiple, rounded half to even, at least 1.
  std::int64_t depth() const {
    if (row_.number == 1) return 1;
    return std::max<std::int64_t>(1, std::llrint(row_.number * spec_.depth_multiple));
  }

 private:
  const ModelSpec& spec_;
  const ModelRow& row_;
};

class Builder {
 public:
  Builder(const ModelSpec& spec, int classes) : spec_(spec), classes_(classes) {}

  YoloParts build() {
    for (const ModelRow& row : spec_.rows) {
      const RowReader reader(spec_, row);
      if (parts_.head != nullptr) reader.fail("Detect must be the last row");
      YoloRow result = place(row, reader);
      add(row, reader, result);
      parts_.rows.push_back(std::move(result));
    }
    if (parts_.head == nullptr)
      throw Error("the last row is not Detect", {.file = spec_.file, .line = 0, .key = "head"},
                  "end the head with [[17, 20, 23], 1, Detect, [nc, anchors]]");
    for (std::size_t i = 0; i < parts_.rows.size(); ++i)
      for (const int from : parts_.rows[i].from)
        if (from >= 0 && from + 1 != static_cast<int>(i))
          parts_.rows[static_cast<std::size_t>(from)].kept = true;
    return std::move(parts_);
  }

 private:
  const ModelSpec& spec_;
  int classes_;
  YoloParts parts_{};
  std::vector<Map> maps_{};

  YoloRow place(const ModelRow& row, const RowReader& reader) const {
    YoloRow result;
    const int here = static_cast<int>(parts_.rows.size());
    for (const int from : row.from) {
      const int source = from < 0 ? here + from : from;
      if (source >= here || source < -1 || (source == -1 && here != 0))
        reader.fail("'from' is " + std::to_string(from) + ", but this is row " +
                        std::to_string(here) + " and it can only read rows before it",
                    "rows are counted from 0 through backbone and head; -1 is the row before");
      result.from.push_back(source);
    }
    const bool many = row.module == "Concat" || row.module == "Detect";
    if (!many && result.from.size() != 1) reader.fail("reads one row, 'from' names several");
    return result;
  }

  Map source(int from) const {
    return from < 0 ? Map{3, 1} : maps_[static_cast<std::size_t>(from)];
  }

  void add(const ModelRow& row, const RowReader& reader, YoloRow& out) {
    const Map in = source(out.from[0]);
    if (row.module == "Conv")
      add_conv(row, reader, in, out);
    else if (row.module == "Bottleneck" || row.module == "C3")
      add_block(row, reader, in, out);
    else if (row.module == "SPPF")
      add_sppf(reader, in, out);
    else if (row.module == "nn.Upsample" || row.module == "Upsample")
      add_upsample(row, reader, in, out);
    else if (row.module == "Concat")
      add_concat(reader, out);
    else if (row.module == "Detect")
      add_detect(reader, out);
    else
      reader.fail("unknown module '" + row.module + "'",
                  "known: Conv, Bottleneck, C3, SPPF, nn.Upsample, Concat, Detect");
  }

  void add_layers(YoloRow& out, Map map) {
    if (out.layers.size() == 1) {
      parts_.model->push_back(out.layers[0]);
    } else {
      torch::nn::ModuleList list;
      for (const auto& layer : out.layers) list->push_back(layer);
      parts_.model->push_back(list);
    }
    maps_.push_back(map);
  }

  void add_conv(const ModelRow& row, const RowReader& reader, Map in, YoloRow& out) {
    reader.accept_arguments(1, 5, "channels, kernel, stride, padding, groups");
    ConvOptions options{.kernel = reader.integer(1, 1, 64, 1),
                        .stride = reader.integer(2, 1, 64, 1),
                        .padding = reader.integer(3, 0, 64, -1),
                        .groups = reader.integer(4, 1, 65536, 1)};
    const std::int64_t width = reader.width();
    for (std::int64_t i = 0; i < reader.depth(); ++i) {
      if (in.channels % options.groups != 0 || width % options.groups != 0)
        reader.fail("groups must divide the input's " + std::to_string(in.channels) + " and the " +
                    std::to_string(width) + " output channels");
      out.layers.push_back(std::make_shared<ConvLayer>(in.channels, width, options));
      in = {width, in.stride * static_cast<double>(options.stride)};
    }
    (void)row;
    add_layers(out, in);
  }

  void add_block(const ModelRow& row, const RowReader& reader, Map in, YoloRow& out) {
    reader.accept_arguments(1, 2, "channels, shortcut");
    const std::int64_t width = reader.width();
    const Shortcut shortcut = reader.shortcut(1);
    if (row.module == "C3") {
      out.layers.push_back(std::make_shared<C3Layer>(in.channels, width, reader.depth(), shortcut));
    } else {
      for (std::int64_t i = 0; i < reader.depth(); ++i)
        out.layers.push_back(
            std::make_shared<BottleneckLayer>(i == 0 ? in.channels : width, width, shortcut));
    }
    add_layers(out, {width, in.stride});
  }

  void add_sppf(const RowReader& reader, Map in, YoloRow& out) {
    reader.accept_arguments(1, 2, "channels, kernel");
    const std::int64_t kernel = reader.integer(1, 1, 63, 5);
    if (kernel % 2 == 0) reader.fail("the pooling kernel must be odd");
    const std::int64_t width = reader.width();
    for (std::int64_t i = 0; i < reader.depth(); ++i)
      out.layers.push_back(
          std::make_shared<SppfLayer>(i == 0 ? in.channels : width, width, kernel));
    add_layers(out, {width, in.stride});
  }

  void add_upsample(const ModelRow& row, const RowReader& reader, Map in, YoloRow& out) {
    reader.accept_arguments(2, 3, "None, scale, nearest");
    if (row.args[0] != "None") reader.fail("the first argument must be None");
    if (row.args.size() == 3 && row.args[2] != "nearest")
      reader.fail("mode '" + row.args[2] + "' is not supported", "use nearest");
    out.kind = YoloRow::Kind::Upsample;
    out.scale = reader.integer(1, 1, 16);
    parts_.model->push_back(torch::nn::Module("Upsample"));
    maps_.push_back({in.channels, in.stride / static_cast<double>(out.scale)});
  }

  void add_concat(const RowReader& reader, YoloRow& out) {
    reader.accept_arguments(0, 1, "1");
    if (reader.integer(0, 1, 1, 1) != 1) reader.fail("joins along dimension 1 only");
    out.kind = YoloRow::Kind::Concat;
    Map joined = source(out.from[0]);
    joined.channels = 0;
    for (const int from : out.from) {
      const Map map = source(from);
      if (map.stride != joined.stride)
        reader.fail("joins maps of different size: strides " + std::to_string(joined.stride) +
                    " and " + std::to_string(map.stride));
      joined.channels += map.channels;
    }
    parts_.model->push_back(torch::nn::Module("Concat"));
    maps_.push_back(joined);
  }

  void add_detect(const RowReader& reader, YoloRow& out) {
    reader.accept_arguments(0, 2, "nc, anchors");
    out.kind = YoloRow::Kind::Detect;
    if (spec_.anchors.size() != out.from.size())
      reader.fail("reads " + std::to_string(out.from.size()) + " rows, but there are anchors for " +
                  std::to_string(spec_.anchors.size()) + " levels");
    std::vector<double> strides;
    std::vector<std::int64_t> channels;
    std::vector<torch::Tensor> anchors;
    for (std::size_t i = 0; i < out.from.size(); ++i) {
      const Map map = source(out.from[i]);
      strides.push_back(map.stride);
      channels.push_back(map.channels);
      anchors.push_back(torch::tensor(spec_.anchors[i], torch::kDouble).view({-1, 2}));
      if (i > 0 && strides[i] <= strides[i - 1])
        reader.fail("reads its rows from small to large stride");
    }
    parts_.head = std::make_shared<DetectHead>(classes_, torch::stack(anchors), strides, channels);
    parts_.model->push_back(parts_.head);
    maps_.push_back({});
  }
};

}  // namespace

YoloParts build_yolo(const ModelSpec& spec, int classes) {
  return Builder(spec, classes).build();
}

}  // namespace brim::detail
