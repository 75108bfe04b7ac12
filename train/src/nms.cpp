#include "brim/train/nms.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <unordered_map>

namespace brim {
namespace {

/// Boxes that were kept, by coordinate, so that one candidate is compared with many at a time.
struct Kept {
  std::vector<float> x1{}, y1{}, x2{}, y2{}, area{};

  void add(const BoxF& b) {
    x1.push_back(b.x1);
    y1.push_back(b.y1);
    x2.push_back(b.x2);
    y2.push_back(b.y2);
    area.push_back((b.x2 - b.x1) * (b.y2 - b.y1));
  }

  bool suppresses(const BoxF& b, float limit) const {
    const float mine = (b.x2 - b.x1) * (b.y2 - b.y1);
    constexpr std::size_t kBlock = 16;
    for (std::size_t from = 0; from < x1.size(); from += kBlock) {
      const std::size_t to = std::min(from + kBlock, x1.size());
      int hits = 0;
      for (std::size_t i = from; i < to; ++i) {
        const float w = std::max(std::min(x2[i], b.x2) - std::max(x1[i], b.x1), 0.0f);
        const float h = std::max(std::min(y2[i], b.y2) - std::max(y1[i], b.y1), 0.0f);
        const float shared = w * h;
        hits += shared / (area[i] + mine - shared) > limit;
      }
      if (hits != 0) return true;
    }
    return false;
  }
};

/// The candidates of one image from its rows [boxes, 5 + C], in the order of boxes and classes.
std::vector<Detection> candidates_of(const float* rows, std::int64_t count, std::int64_t channels,
                                     const NmsOptions& options) {
  const auto least = static_cast<float>(options.confidence);
  const std::int64_t classes = channels - 5;
  const bool multi_label = options.multi_label && classes > 1;
  std::vector<Detection> found;
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * channels;
    const float objectness = row[4];
    if (!(objectness > least)) continue;
    const BoxF box = to_corners({row[0], row[1], row[2], row[3]});
    const float* scores = row + 5;
    if (!multi_label) {
      const auto best = std::max_element(scores, scores + classes);
      const float confidence = *best * objectness;
      if (confidence > least) {
        found.push_back({box, confidence, static_cast<std::int32_t>(best - scores)});
      }
      continue;
    }
    for (std::int64_t c = 0; c < classes; ++c) {
      const float confidence = scores[c] * objectness;
      if (confidence > least) found.push_back({box, confidence, static_cast<std::int32_t>(c)});
    }
  }
  return found;
}

/// Order of the best `limit` candidates, best first, ties by place.
std::vector<std::uint32_t> ranking(const std::vector<Detection>& candidates, std::size_t limit) {
  std::vector<std::uint32_t> order(candidates.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto better = [&](std::uint32_t a, std::uint32_t b) {
    const float x = candidates[a].confidence, y = candidates[b].confidence;
    return x != y ? x > y : a < b;
  };
  if (order.size() > limit) {
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(limit), order.end(),
                     better);
    order.resize(limit);
  }
  std::sort(order.begin(), order.end(), better);
  return order;
}

}  // namespace

std::vector<Detection> suppress(std::vector<Detection> candidates, const NmsOptions& options) {
  std::erase_if(candidates, [](const Detection& d) { return !(d.confidence == d.confidence); });
  const auto limit = static_cast<float>(options.iou);
  const auto most = static_cast<std::size_t>(std::max(options.max_detections, 0));
  std::unordered_map<std::int32_t, Kept> kept;
  std::vector<Detection> result;
  for (const std::uint32_t i :
       ranking(candidates, static_cast<std::size_t>(std::max(options.max_candidates, 0)))) {
    if (result.size() == most) break;
    const Detection& candidate = candidates[i];
    Kept& rivals = kept[options.agnostic ? 0 : candidate.class_id];
    if (rivals.suppresses(candidate.box, limit)) continue;
    rivals.add(candidate.box);
    result.push_back(candidate);
  }
  return result;
}

std::vector<std::vector<Detection>> non_maximum_suppression(const torch::Tensor& predictions,
                                                            const NmsOptions& options) {
  if (predictions.dim() != 3 || predictions.size(2) < 6) {
    throw std::invalid_argument("non-maximum suppression: predictions are not [N, boxes, 5 + C]");
  }
  const torch::NoGradGuard no_grad;
  const std::int64_t images = predictions.size(0), channels = predictions.size(2);
  // Off the CPU only rows that can count are copied.
  std::vector<torch::Tensor> rows(static_cast<std::size_t>(images));
  for (std::int64_t i = 0; i < images; ++i) {
    auto image = predictions[i].detach();
    if (!image.is_cpu()) image = image.index({image.select(1, 4) > options.confidence});
    rows[static_cast<std::size_t>(i)] = image.to(torch::kCPU, torch::kFloat).contiguous();
  }
  std::vector<std::vector<Detection>> result(rows.size());
  at::parallel_for(0, images, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto& image = rows[static_cast<std::size_t>(i)];
      result[static_cast<std::size_t>(i)] = suppress(
          candidates_of(image.data_ptr<float>(), image.size(0), channels, options), options);
    }
  });
  return result;
}

}  // namespace brim
