#include <ATen/Parallel.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "brim/cache/error.h"
#include "brim/train/boxes.h"
#include "detection_loss_parts.h"

// The CPU form of the detection objective. The forward pass reads one number per place (its
// objectness) and one row per match, and already holds the gradient of both; the backward pass
// writes each level's gradient once, in memory order.

namespace brim::detail {
namespace {

using torch::Tensor;

constexpr std::int64_t kGrain = 4096;

/// One level seen as `places` rows of `channels` numbers that lie next to each other in memory.
struct Level {
  std::int64_t places = 0, channels = 0;
  std::vector<TargetMatch> matches{};
  std::vector<std::int64_t> place{};  ///< of each match
  std::int64_t objectness_at = 0;     ///< offsets into the logits buffer
  std::int64_t classes_at = 0;
  std::int64_t first_match = 0;  ///< offset into the rows of box gradients
};

/// What one batch asks of every level.
struct Survey {
  std::vector<Level> levels{};
  std::int64_t numbers = 0, matches = 0;
};

std::span<const TargetRow> rows_of(const Tensor& targets) {
  return {reinterpret_cast<const TargetRow*>(targets.data_ptr<float>()),
          static_cast<std::size_t>(targets.size(0))};
}

void check_targets(std::span<const TargetRow> rows, std::int64_t images, int classes) {
  for (const TargetRow& row : rows) {
    if (!(row.class_id >= 0 && row.class_id < static_cast<float>(classes))) {
      throw Error("class id " + std::to_string(row.class_id) + " of a label is outside 0.." +
                  std::to_string(classes - 1));
    }
    if (!(row.image >= 0 && row.image < static_cast<float>(images))) {
      throw std::invalid_argument("detection loss: a target belongs to no image of the batch");
    }
  }
}

Survey survey(const DetectionLossPlan& plan, const std::vector<Tensor>& levels,
              std::span<const TargetRow> rows) {
  Survey s;
  const float* anchors = plan.anchors.data_ptr<float>();
  const auto per_level = static_cast<std::size_t>(plan.anchors.size(1) * 2);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const Tensor& t = levels[i];
    Level level{.places = t.numel() / t.size(4), .channels = t.size(4)};
    level.matches =
        match_targets(rows, {anchors + i * per_level, per_level}, static_cast<int>(t.size(3)),
                      static_cast<int>(t.size(2)), plan.anchor_t);
    for (const TargetMatch& m : level.matches) {
      level.place.push_back((m.image * t.stride(0) + m.anchor * t.stride(1) + m.row * t.stride(2) +
                             m.column * t.stride(3)) /
                            level.channels);
    }
    level.objectness_at = s.numbers;
    level.classes_at = level.objectness_at + level.places;
    s.numbers = level.classes_at;
    if (plan.classes > 1) {
      s.numbers += static_cast<std::int64_t>(level.matches.size()) * plan.classes;
    }
    level.first_match = s.matches;
    s.matches += static_cast<std::int64_t>(level.matches.size());
    s.levels.push_back(std::move(level));
  }
  return s;
}

/// Copies the logits that matter to `logits`, targets for the classes to `wanted`.
template <typename T>
void gather(const T* data, const Level& level, const DetectionLossPlan& plan, float* logits,
            float* wanted) {
  at::parallel_for(0, level.places, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      logits[level.objectness_at + i] = static_cast<float>(data[i * level.channels + 4]);
    }
  });
  if (plan.classes == 1) return;
  for (std::size_t m = 0; m < level.place.size(); ++m) {
    const T* row = data + level.place[m] * level.channels + 5;
    const std::int64_t at = level.classes_at + static_cast<std::int64_t>(m) * plan.classes;
    std::copy_n(row, plan.classes, logits + at);
    std::fill_n(wanted + at, plan.classes, plan.negative);
    wanted[at + level.matches[m].class_id] = plan.positive;
  }
}

/// Box loss of a level (unscaled mean); its gradient by the four logits of each match, and the
/// objectness targets.
template <typename T>
double box_part(const T* data, const Level& level, const float* anchors, float gain,
                float* gradients, float* wanted) {
  double loss = 0;
  const float share = gain / static_cast<float>(level.matches.size());
  for (std::size_t m = 0; m < level.matches.size(); ++m) {
    const TargetMatch& match = level.matches[m];
    const T* row = data + level.place[m] * level.channels;
    float s[4];
    for (int j = 0; j < 4; ++j) s[j] = 1 / (1 + std::exp(-static_cast<float>(row[j])));
    const float aw = anchors[match.anchor * 2], ah = anchors[match.anchor * 2 + 1];
    const CenterBox box{s[0] * 2 - 0.5f, s[1] * 2 - 0.5f, s[2] * s[2] * 4 * aw,
                        s[3] * s[3] * 4 * ah};
    float by_box[4];
    const float ciou =
        ciou_with_gradient(box, {match.cx, match.cy, match.width, match.height}, by_box);
    loss += 1.0 - static_cast<double>(ciou);
    wanted[level.objectness_at + level.place[m]] = std::max(ciou, 0.0f);
    float* g = gradients + (level.first_match + static_cast<std::int64_t>(m)) * 4;
    for (int j = 0; j < 4; ++j) {
      const float by_logit =
          j < 2 ? 2 * s[j] * (1 - s[j]) : 8 * s[j] * s[j] * (1 - s[j]) * (j == 2 ? aw : ah);
      g[j] = -share * by_box[j] * by_logit;
    }
  }
  return level.matches.empty() ? 0.0 : loss / static_cast<double>(level.matches.size());
}

struct EntropySettings {
  float positive_weight = 1, gamma = 0, scale = 1;
};

/// Cross entropy (focal where gamma > 0) of `count` logits. `fade` holds exp(-|x|), `log_fade`
/// log1p of it. Puts the scaled gradient where the logits were and returns the sum of the losses.
double entropy(float* logits, const float* fade, const float* log_fade, const float* wanted,
               std::int64_t count, const EntropySettings& s) {
  std::vector<double> sums(static_cast<std::size_t>((count + kGrain - 1) / kGrain), 0.0);
  const bool plain = s.positive_weight == 1 && s.gamma <= 0;
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), 1,
                   [&](std::int64_t from, std::int64_t to) {
                     for (std::int64_t block = from; block < to; ++block) {
                       const std::int64_t end = std::min(count, (block + 1) * kGrain);
                       double sum = 0;
                       for (std::int64_t i = block * kGrain; i < end; ++i) {
                         const float x = logits[i], t = wanted[i];
                         const float p = (x >= 0 ? 1.0f : fade[i]) / (1 + fade[i]);
                         if (plain) {
                           sum += static_cast<double>(log_fade[i] + std::max(x, 0.0f) - x * t);
                           logits[i] = (p - t) * s.scale;
                           continue;
                         }
                         const float weight = 1 + (s.positive_weight - 1) * t;
                         float loss = (1 - t) * x + weight * (log_fade[i] + std::max(-x, 0.0f));
                         float slope = (1 - t) - weight * (1 - p);
                         if (s.gamma > 0) {
                           const float miss = 1 - (t * p + (1 - t) * (1 - p));
                           const auto a = static_cast<float>(kFocalAlpha);
                           const float alpha = t * a + (1 - t) * (1 - a);
                           const float focus = alpha * std::pow(miss, s.gamma);
                           const float by_miss = miss > 0 ? focus * s.gamma / miss : 0.0f;
                           slope = slope * focus - loss * by_miss * (2 * t - 1) * p * (1 - p);
                           loss *= focus;
                         }
                         sum += static_cast<double>(loss);
                         logits[i] = slope * s.scale;
                       }
                       sums[static_cast<std::size_t>(block)] = sum;
                     }
                   });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

/// The gradient of one level: zeros but for objectness and the matches' rows.
template <typename T>
void scatter(T* out, const Level& level, int classes, const float* numbers, const float* boxes,
             float scale) {
  at::parallel_for(0, level.places, kGrain / 16, [&](std::int64_t begin, std::int64_t end) {
    std::fill(out + begin * level.channels, out + end * level.channels, T(0));
    for (std::int64_t i = begin; i < end; ++i) {
      out[i * level.channels + 4] = static_cast<T>(numbers[level.objectness_at + i] * scale);
    }
  });
  for (std::size_t m = 0; m < level.place.size(); ++m) {
    T* row = out + level.place[m] * level.channels;
    const float* box = boxes + (level.first_match + static_cast<std::int64_t>(m)) * 4;
    for (int j = 0; j < 4; ++j) row[j] += static_cast<T>(box[j] * scale);
    if (classes == 1) continue;
    const float* by_class = numbers + level.classes_at + static_cast<std::int64_t>(m) * classes;
    for (int j = 0; j < classes; ++j) row[5 + j] += static_cast<T>(by_class[j] * scale);
  }
}

/// The backward pass: keeps the finished gradients and the levels' shapes, not the levels.
class FusedLossNode : public torch::autograd::Node {
 public:
  struct Shape {
    std::vector<std::int64_t> sizes{}, strides{};
    torch::TensorOptions options{};
  };
  std::vector<Level> levels{};
  std::vector<Shape> shapes{};
  int classes = 0;
  Tensor numbers{}, boxes{};

  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    torch::autograd::variable_list result(levels.size());
    if (!grads[0].defined()) return result;
    if (!numbers.defined()) throw std::logic_error("detection loss: backward was run before");
    const auto scale = grads[0].item<float>();
    for (std::size_t i = 0; i < levels.size(); ++i) {
      if (!task_should_compute_output(i)) continue;
      result[i] = at::empty_strided(shapes[i].sizes, shapes[i].strides, shapes[i].options);
      AT_DISPATCH_FLOATING_TYPES_AND2(
          at::kHalf, at::kBFloat16, result[i].scalar_type(), "detection_loss_backward", [&] {
            scatter(result[i].data_ptr<scalar_t>(), levels[i], classes, numbers.data_ptr<float>(),
                    boxes.data_ptr<float>(), scale);
          });
    }
    return result;
  }
  void release_variables() override {
    numbers.reset();
    boxes.reset();
  }
};

/// A level whose rows are whole in memory: as it is where the network works channels-last.
Tensor by_rows(const Tensor& level) {
  return level.stride(4) == 1 && level.is_non_overlapping_and_dense() ? level : level.contiguous();
}

struct Forward {
  Tensor numbers{}, boxes{};
  double parts[3] = {0, 0, 0};
};

Forward run_forward(const DetectionLossPlan& plan, const std::vector<Tensor>& levels,
                    const Survey& s) {
  const torch::NoGradGuard no_grad;
  Forward f{torch::empty({s.numbers}, torch::kFloat), torch::empty({s.matches, 4}, torch::kFloat)};
  const auto wanted = torch::zeros({s.numbers}, torch::kFloat);
  auto* x = f.numbers.data_ptr<float>();
  auto* t = wanted.data_ptr<float>();
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const float* anchors =
        plan.anchors.data_ptr<float>() + static_cast<std::int64_t>(i) * plan.anchors.stride(0);
    const double box_gain = plan.box * plan.share(i);
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, levels[i].scalar_type(), "detection_loss", [&] {
          const auto* data = levels[i].data_ptr<scalar_t>();
          gather(data, s.levels[i], plan, x, t);
          f.parts[0] +=
              box_gain * box_part(data, s.levels[i], anchors, static_cast<float>(box_gain),
                                  f.boxes.data_ptr<float>(), t);
        });
  }
  const auto fade = f.numbers.abs().neg_().exp_();
  const auto log_fade = fade.log1p();
  const auto part = [&](std::int64_t at, std::int64_t count, double gain, double weight) {
    if (count == 0) return 0.0;
    const double scale = gain / static_cast<double>(count);
    return scale * entropy(x + at, fade.data_ptr<float>() + at, log_fade.data_ptr<float>() + at,
                           t + at, count,
                           {.positive_weight = static_cast<float>(weight),
                            .gamma = static_cast<float>(plan.fl_gamma),
                            .scale = static_cast<float>(scale)});
  };
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const Level& level = s.levels[i];
    f.parts[1] += part(level.objectness_at, level.places, plan.obj[i], plan.obj_pw);
    if (plan.classes == 1) continue;
    const auto count = static_cast<std::int64_t>(level.matches.size()) * plan.classes;
    f.parts[2] += part(level.classes_at, count, plan.cls * plan.share(i), plan.cls_pw);
  }
  return f;
}

}  // namespace

LossResult fused_detection_loss(const DetectionLossPlan& plan, const std::vector<Tensor>& given,
                                const Tensor& targets) {
  std::vector<Tensor> levels;
  for (const Tensor& level : given) levels.push_back(by_rows(level));
  const auto labels = targets.to(torch::kCPU, torch::kFloat).contiguous();
  const auto rows = rows_of(labels);
  check_targets(rows, levels[0].size(0), plan.classes);
  Survey s = survey(plan, levels, rows);
  const Forward f = run_forward(plan, levels, s);

  const auto scale = static_cast<float>(levels[0].size(0));
  LossResult result{torch::tensor((f.parts[0] + f.parts[1] + f.parts[2]) * scale, torch::kFloat),
                    torch::tensor({f.parts[0], f.parts[1], f.parts[2]}, torch::kFloat)};
  if (!torch::GradMode::is_enabled()) return result;
  const std::shared_ptr<FusedLossNode> node(new FusedLossNode(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(levels));
  for (const Tensor& level : levels) {
    node->shapes.push_back({level.sizes().vec(), level.strides().vec(), level.options()});
  }
  node->levels = std::move(s.levels);
  node->classes = plan.classes;
  node->numbers = f.numbers.mul(scale);
  node->boxes = f.boxes.mul(scale);
  torch::autograd::set_history(result.total, node);
  return result;
}

}  // namespace brim::detail
