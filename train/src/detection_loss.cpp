#include "brim/train/detection_loss.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "brim/cache/error.h"
#include "detection_loss_parts.h"

namespace brim {
namespace {

/// How much of a level's objectness counts: fine levels hold most cells and least signal.
std::vector<double> level_balance(std::size_t levels, std::vector<double> wished) {
  if (wished.empty()) {
    wished = levels == 3 ? std::vector{4.0, 1.0, 0.4} : std::vector{4.0, 1.0, 0.25, 0.06, 0.02};
  }
  if (wished.size() < levels) wished.resize(levels, wished.back());
  return wished;
}

detail::DetectionLossPlan make_plan(const torch::Tensor& anchors, int classes,
                                    const DetectionLossOptions& options) {
  const auto levels = static_cast<std::size_t>(anchors.size(0));
  const double per_level = 3.0 / static_cast<double>(levels);
  const double area = std::pow(options.image_size / 640.0, 2);
  detail::DetectionLossPlan plan{
      .anchors = anchors,
      .classes = classes,
      .box = options.box * per_level,
      .cls = options.cls * classes / 80.0 * per_level,
      .cls_pw = options.cls_pw,
      .obj_pw = options.obj_pw,
      .anchor_t = options.anchor_t,
      .fl_gamma = options.fl_gamma,
      .positive = static_cast<float>(1.0 - 0.5 * options.label_smoothing),
      .negative = static_cast<float>(0.5 * options.label_smoothing),
  };
  const auto balance = level_balance(levels, options.balance);
  for (std::size_t i = 0; i < levels; ++i) {
    plan.obj.push_back(options.obj * area * per_level * balance[i]);
  }
  return plan;
}

void check_levels(const std::vector<torch::Tensor>& levels, const torch::Tensor& anchors,
                  int classes) {
  if (levels.size() != static_cast<std::size_t>(anchors.size(0))) {
    throw std::invalid_argument("detection loss: " + std::to_string(levels.size()) +
                                " levels for anchors of " + std::to_string(anchors.size(0)));
  }
  for (const auto& level : levels) {
    if (level.dim() != 5 || level.size(1) != anchors.size(1) || level.size(4) != classes + 5) {
      throw std::invalid_argument("detection loss: a level is not [N, " +
                                  std::to_string(anchors.size(1)) + ", y, x, " +
                                  std::to_string(classes + 5) + "]");
    }
  }
}

}  // namespace

std::vector<TargetMatch> match_targets(std::span<const TargetRow> targets,
                                       std::span<const float> anchors, int grid_width,
                                       int grid_height, double anchor_t) {
  const auto width = static_cast<float>(grid_width), height = static_cast<float>(grid_height);
  const auto limit = static_cast<float>(anchor_t);
  struct Scaled {
    const TargetRow* row;
    int anchor;
    float x, y, w, h;
  };
  std::vector<Scaled> fitting;
  for (std::size_t a = 0; a + 1 < anchors.size(); a += 2) {
    for (const TargetRow& t : targets) {
      const Scaled s{&t,
                     static_cast<int>(a / 2),
                     t.cx * width,
                     t.cy * height,
                     t.width * width,
                     t.height * height};
      const float by_width = s.w / anchors[a], by_height = s.h / anchors[a + 1];
      const float worst =
          std::max(std::max(by_width, 1 / by_width), std::max(by_height, 1 / by_height));
      if (worst < limit) fitting.push_back(s);
    }
  }
  // The cell itself, then its left, upper, right and lower neighbour.
  static constexpr float kShift[5][2] = {{0, 0}, {0.5f, 0}, {0, 0.5f}, {-0.5f, 0}, {0, -0.5f}};
  const auto near = [](float v) { return v > 1 && v - std::floor(v) < 0.5f; };
  std::vector<TargetMatch> matches;
  for (int k = 0; k < 5; ++k) {
    for (const Scaled& s : fitting) {
      const bool wanted[5] = {true, near(s.x), near(s.y), near(width - s.x), near(height - s.y)};
      if (!wanted[k]) continue;
      const int column = std::clamp(static_cast<int>(s.x - kShift[k][0]), 0, grid_width - 1);
      const int row = std::clamp(static_cast<int>(s.y - kShift[k][1]), 0, grid_height - 1);
      matches.push_back({.image = static_cast<std::int32_t>(s.row->image),
                         .anchor = s.anchor,
                         .row = row,
                         .column = column,
                         .class_id = static_cast<std::int32_t>(s.row->class_id),
                         .cx = s.x - static_cast<float>(column),
                         .cy = s.y - static_cast<float>(row),
                         .width = s.w,
                         .height = s.h});
    }
  }
  return matches;
}

DetectionLoss::DetectionLoss(const torch::Tensor& anchors, int classes,
                             DetectionLossOptions options, Path path)
    : anchors_(anchors.detach().to(torch::kCPU, torch::kFloat).contiguous().clone()),
      classes_(classes),
      options_(std::move(options)),
      path_(path),
      constants_(std::make_shared<detail::DetectionConstants>()) {
  if (anchors_.dim() != 3 || anchors_.size(2) != 2) {
    throw std::invalid_argument("detection loss: anchors are not [levels, anchors, 2]");
  }
}

LossResult DetectionLoss::loss(const NetworkOutput& output, const TensorBatch& batch) {
  return loss(output.levels, batch.targets);
}

LossResult DetectionLoss::loss(const std::vector<torch::Tensor>& levels,
                               const torch::Tensor& targets) {
  check_levels(levels, anchors_, classes_);
  return loss(levels, targets, make_plan(anchors_, classes_, options_));
}

/// Box and class losses are means over matches: with m_l matches on level l in n images of a batch
/// of N images and M_l matches, the part's share of the whole is (N m_l) / (n M_l).
LossResult DetectionLoss::partial_loss(const NetworkOutput& output, const TensorBatch& part,
                                       const TensorBatch& whole) {
  if (part.size() == whole.size()) return loss(output, part);
  check_levels(output.levels, anchors_, classes_);
  auto plan = make_plan(anchors_, classes_, options_);
  const auto count = [&](const torch::Tensor& targets, std::size_t level) {
    const auto rows = targets.to(torch::kCPU, torch::kFloat).contiguous();
    const auto anchors = anchors_[static_cast<std::int64_t>(level)].contiguous();
    const torch::Tensor& grid = output.levels[level];
    return match_targets({reinterpret_cast<const TargetRow*>(rows.data_ptr<float>()),
                          static_cast<std::size_t>(rows.size(0))},
                         {anchors.data_ptr<float>(), static_cast<std::size_t>(anchors.numel())},
                         static_cast<int>(grid.size(3)), static_cast<int>(grid.size(2)),
                         options_.anchor_t)
        .size();
  };
  const double images = static_cast<double>(whole.size()) / static_cast<double>(part.size());
  for (std::size_t i = 0; i < output.levels.size(); ++i) {
    const std::size_t all = count(whole.targets, i);
    plan.match_share.push_back(all == 0 ? 1.0
                                        : images * static_cast<double>(count(part.targets, i)) /
                                              static_cast<double>(all));
  }
  return loss(output.levels, part.targets, plan);
}

LossResult DetectionLoss::loss(const std::vector<torch::Tensor>& levels,
                               const torch::Tensor& targets,
                               const detail::DetectionLossPlan& plan) const {
  const bool fused = path_ == Path::Fused || (path_ == Path::Auto && levels[0].is_cpu());
  return fused ? detail::fused_detection_loss(plan, levels, targets)
               : detail::tensor_detection_loss(plan, levels, targets, *constants_);
}

std::vector<std::string> DetectionLoss::component_names() const {
  return {"box_loss", "obj_loss", "cls_loss"};
}

}  // namespace brim
