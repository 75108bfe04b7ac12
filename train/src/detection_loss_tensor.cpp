#include <array>
#include <utility>

#include "brim/train/boxes.h"
#include "detection_loss_parts.h"

namespace brim::detail {
namespace {

using torch::Tensor;

/// Cross entropy with logits, element by element, focal where asked for.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double positive_weight,
                     double gamma) {
  const auto weight = torch::full({1}, positive_weight, logits.options());
  auto loss =
      torch::binary_cross_entropy_with_logits(logits, targets, {}, weight, at::Reduction::None);
  if (gamma <= 0) return loss;
  const auto p = logits.sigmoid();
  const auto hit = targets * p + (1 - targets) * (1 - p);
  const auto alpha = targets * kFocalAlpha + (1 - targets) * (1 - kFocalAlpha);
  return loss * alpha * (1 - hit).pow(gamma);
}

/// Every (neighbour, anchor, label) of a level, in match_targets' order; `valid` says which count.
/// All sizes are known on the host, so nothing waits for the device.
struct Candidates {
  Tensor valid, image, anchor, row, column, class_id, box, anchor_size;
};

Candidates candidates(const Tensor& targets, const Tensor& anchors, const Tensor& grid,
                      const Tensor& shift, double anchor_t) {
  const auto whole = targets.options().dtype(torch::kLong);
  const std::int64_t labels = targets.size(0), count = anchors.size(0);
  const auto center = targets.slice(1, 2, 4) * grid, size = targets.slice(1, 4, 6) * grid;
  const auto ratio = size.unsqueeze(0) / anchors.unsqueeze(1);
  const auto fits = torch::max(ratio, ratio.reciprocal()).amax(2) < anchor_t;  // [A, M]

  const auto close = [](const Tensor& v) { return (v - v.floor() < 0.5).logical_and(v > 1); };
  const auto left_upper = close(center).unbind(1), right_lower = close(grid - center).unbind(1);
  const auto near = torch::stack({torch::ones_like(left_upper[0]), left_upper[0], left_upper[1],
                                  right_lower[0], right_lower[1]});  // [5, M]
  auto cell = (center.unsqueeze(0) - shift.unsqueeze(1)).trunc();    // [5, M, 2]
  cell = torch::minimum(cell.clamp_min(0), grid - 1);

  const std::array<std::int64_t, 3> shape{5, count, labels};
  const auto flat = [&](const Tensor& t) { return t.expand(shape).reshape({-1}); };
  const auto flat_pair = [&](const Tensor& t) {
    return t.expand({5, count, labels, 2}).reshape({-1, 2});
  };
  Candidates c;
  c.valid = near.unsqueeze(1).logical_and(fits.unsqueeze(0)).reshape({-1});
  c.image = flat(targets.select(1, 0).to(torch::kLong).view({1, 1, labels}));
  c.class_id = flat(targets.select(1, 1).to(torch::kLong).view({1, 1, labels}));
  c.anchor = flat(torch::arange(count, whole).view({1, count, 1}));
  c.column = flat(cell.select(2, 0).to(torch::kLong).unsqueeze(1));
  c.row = flat(cell.select(2, 1).to(torch::kLong).unsqueeze(1));
  c.box = torch::cat({flat_pair((center.unsqueeze(0) - cell).unsqueeze(1)),
                      flat_pair(size.view({1, 1, labels, 2}))},
                     1);
  c.anchor_size = flat_pair(anchors.view({1, count, 1, 2}));
  return c;
}

/// Objectness targets [N, A, y, x]: the overlap of the last valid candidate of each place. Places
/// are sorted with their rank, so that the result is the same in every run on every device.
Tensor objectness_targets(const Candidates& c, const Tensor& overlap, at::IntArrayRef shape) {
  const std::int64_t places = shape[0] * shape[1] * shape[2] * shape[3];
  const std::int64_t count = overlap.size(0);
  const auto place = ((c.image * shape[1] + c.anchor) * shape[2] + c.row) * shape[3] + c.column;
  const auto rank = torch::arange(count, place.options());
  const auto valid_place = torch::where(c.valid, place, torch::full_like(place, places));
  const auto sorted = std::get<0>(torch::sort(valid_place * count + rank));
  const auto sorted_place = sorted.floor_divide(count);
  const auto last = torch::ones_like(sorted_place, torch::kBool);
  last.slice(0, 0, count - 1)
      .copy_(sorted_place.slice(0, 1) != sorted_place.slice(0, 0, count - 1));
  const auto target = torch::where(last, sorted_place, torch::full_like(place, places));
  const auto value = overlap.detach().clamp_min(0).index_select(0, sorted.remainder(count));
  return torch::zeros({places + 1}, value.options())
      .scatter_(0, target, value)
      .slice(0, 0, places)
      .view(shape);
}

}  // namespace

void DetectionConstants::fit(const DetectionLossPlan& plan, const std::vector<Tensor>& levels,
                             const torch::TensorOptions& options) {
  std::vector<std::int64_t> wanted;
  for (const Tensor& level : levels) wanted.insert(wanted.end(), {level.size(3), level.size(2)});
  if (wanted == sizes && anchors.defined() && anchors.device() == options.device() &&
      anchors.dtype() == options.dtype())
    return;
  anchors = plan.anchors.to(options);
  grids = torch::tensor(wanted, torch::kLong).view({-1, 2}).to(options);
  shifts =
      torch::tensor({{0.0, 0.0}, {0.5, 0.0}, {0.0, 0.5}, {-0.5, 0.0}, {0.0, -0.5}}).to(options);
  sizes = std::move(wanted);
}

LossResult tensor_detection_loss(const DetectionLossPlan& plan, const std::vector<Tensor>& levels,
                                 const Tensor& targets, DetectionConstants& constants) {
  const auto device = levels[0].device();
  const auto dtype = levels[0].scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
  const auto options = torch::TensorOptions().device(device).dtype(dtype);
  auto box_loss = torch::zeros({}, options), obj_loss = box_loss, cls_loss = box_loss;
  const auto labels = targets.to(device, dtype);
  constants.fit(plan, levels, options);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto& level = levels[i];
    const auto place = static_cast<std::int64_t>(i);
    auto wanted = torch::zeros(level.sizes().slice(0, 4), options);
    if (labels.size(0) > 0) {
      const auto c = candidates(labels, constants.anchors[place], constants.grids[place],
                                constants.shifts, plan.anchor_t);
      const auto rows = level.index({c.image, c.anchor, c.row, c.column}).to(dtype);
      const auto count = c.valid.sum().clamp_min(1).to(dtype);
      const auto zero = torch::zeros({1}, options);
      const auto s = rows.slice(1, 0, 4).sigmoid();
      const auto box = torch::cat(
          {s.slice(1, 0, 2) * 2 - 0.5, (s.slice(1, 2, 4) * 2).square() * c.anchor_size}, 1);
      const auto ciou = overlap(box, c.box, Overlap::CIoU);
      box_loss = box_loss +
                 torch::where(c.valid, 1 - ciou, zero).sum() / count * (plan.box * plan.share(i));
      wanted = objectness_targets(c, ciou, wanted.sizes());
      if (plan.classes > 1) {
        const auto ids = torch::arange(plan.classes, c.class_id.options());
        const auto truth =
            c.class_id.unsqueeze(1).eq(ids).to(dtype) * (plan.positive - plan.negative) +
            plan.negative;
        const auto each = cross_entropy(rows.slice(1, 5), truth, plan.cls_pw, plan.fl_gamma);
        cls_loss = cls_loss + torch::where(c.valid.unsqueeze(1), each, zero).sum() /
                                  (count * plan.classes) * (plan.cls * plan.share(i));
      }
    }
    const auto each =
        cross_entropy(level.select(4, 4).to(dtype), wanted, plan.obj_pw, plan.fl_gamma);
    obj_loss = obj_loss + each.mean() * plan.obj[i];
  }
  const auto images = static_cast<double>(levels[0].size(0));
  return {(box_loss + obj_loss + cls_loss) * images,
          torch::stack({box_loss, obj_loss, cls_loss}).detach()};
}

}  // namespace brim::detail
