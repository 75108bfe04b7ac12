#include "brim/train/evaluate.h"

#include <algorithm>

#include "brim/cache/error.h"
#include "brim/train/boxes.h"
#include "brim/train/compat.h"
#include "brim/train/training_scope.h"
#include "trainer_impl.h"

namespace brim {
namespace {

/// Labels of a batch per image, in pixels of the original images.
std::vector<std::vector<LabelledBox>> labels_of(const TensorBatch& batch) {
  std::vector<std::vector<LabelledBox>> labels(static_cast<std::size_t>(batch.size()));
  if (!batch.targets.defined() || batch.targets.numel() == 0) return labels;
  const torch::Tensor rows = batch.targets.cpu().contiguous();
  const auto width = static_cast<float>(batch.images.size(3));
  const auto height = static_cast<float>(batch.images.size(2));
  const float* row = rows.data_ptr<float>();
  for (std::int64_t i = 0; i < rows.size(0); ++i, row += 6) {
    const auto image = static_cast<std::size_t>(row[0]);
    const auto in_sample =
        to_corners({row[2] * width, row[3] * height, row[4] * width, row[5] * height});
    labels[image].push_back({static_cast<std::int32_t>(row[1]),
                             to_original(in_sample, batch.samples[image].placement)});
  }
  return labels;
}

/// Rows of the samples that stand for themselves and not for a bad file.
torch::Tensor own_samples(const TensorBatch& batch) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < batch.size(); ++i)
    if (std::ssize(batch.samples) <= i || !batch.samples[i].replaced) rows.push_back(i);
  return torch::tensor(rows, torch::kLong);
}

torch::Tensor tensor_of(const std::vector<std::int64_t>& numbers) {
  return torch::tensor(numbers, torch::kLong);
}

std::vector<std::int64_t> numbers_of(const torch::Tensor& tensor) {
  const torch::Tensor numbers = tensor.contiguous();
  const auto* data = numbers.data_ptr<std::int64_t>();
  return {data, data + numbers.numel()};
}

/// Sums that grow with the batches: constant memory but for the 8 bytes per detection.
class Collector {
 public:
  Collector(const Network& network, const EvaluateOptions& options)
      : options_(options),
        detection_(network.classes()),
        confusion_(network.classes()),
        classification_(network.classes()) {}

  void add_detections(const TensorBatch& batch, const NetworkOutput& output) {
    const detail::Stopwatch time;
    std::vector<std::vector<Detection>> found =
        non_maximum_suppression(output.predictions, options_.nms);
    const std::vector<std::vector<LabelledBox>> labels = labels_of(batch);
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (Detection& one : found[i]) one.box = to_original(one.box, batch.samples[i].placement);
      // What took a bad file's place counts where it stands itself.
      if (batch.samples[i].replaced) {
        detection_.add({}, {});
        continue;
      }
      detection_.add(found[i], labels[i]);
      confusion_.add(found[i], labels[i]);
    }
    nms_seconds_ += time.seconds();
    if (options_.on_batch) options_.on_batch({batch, found});
  }

  void add_classes(const TensorBatch& batch, const torch::Tensor& logits) {
    if (batch.class_ids.defined()) {
      const torch::Tensor rows = own_samples(batch).to(logits.device());
      classification_.add(logits.index_select(0, rows),
                          batch.class_ids.index_select(0, rows.to(batch.class_ids.device())));
    }
    if (options_.on_batch) options_.on_batch({batch, {}, logits});
  }

  void add_losses(const TensorBatch& batch, const NetworkOutput& output) {
    const LossResult loss = options_.objective->loss(output, batch);
    const auto images = static_cast<double>(own_samples(batch).size(0));
    const torch::Tensor share = loss.components * images;
    losses_ = losses_.defined() ? losses_ + share : share;
  }

  /// Joins what all ranks have collected; adds up `result.images`.
  void share(ProcessGroup& group, EvaluationResult& result) {
    const torch::Tensor images = torch::full({1}, result.images, torch::kLong);
    group.reduce(images, Reduction::Sum);
    result.images = images.item<std::int64_t>();
    if (result.task == Task::Detect) {
      std::vector<std::vector<std::int64_t>> packed;
      for (const torch::Tensor& numbers : gather_rows(group, tensor_of(detection_.pack())))
        packed.push_back(numbers_of(numbers));
      detection_ = DetectionMetrics::interleave(confusion_.classes(), packed);
      const std::span<std::int64_t> counts = confusion_.counts();
      group.reduce(torch::from_blob(counts.data(), {std::ssize(counts)}, torch::kLong),
                   Reduction::Sum);
    } else {
      const torch::Tensor counts = tensor_of(classification_.counts());
      group.reduce(counts, Reduction::Sum);
      classification_.set_counts(numbers_of(counts));
    }
    if (options_.objective == nullptr) return;
    const auto names = static_cast<std::int64_t>(options_.objective->component_names().size());
    losses_ = losses_.defined() ? losses_.to(torch::kCPU, torch::kDouble)
                                : torch::zeros({names}, torch::kDouble);
    group.reduce(losses_, Reduction::Sum);
  }

  void finish(EvaluationResult& result) const {
    if (result.task == Task::Detect) {
      result.detection = detection_.compute();
      result.confusion = confusion_;
    } else {
      result.classification = classification_.compute();
    }
    result.nms_seconds = nms_seconds_;
    if (!losses_.defined() || result.images == 0) return;
    const torch::Tensor means =
        (losses_ / static_cast<double>(result.images)).to(torch::kCPU, torch::kDouble);
    result.losses.assign(means.data_ptr<double>(), means.data_ptr<double>() + means.numel());
    result.loss_names = options_.objective->component_names();
  }

 private:
  const EvaluateOptions& options_;
  DetectionMetrics detection_;
  ConfusionMatrix confusion_;
  ClassificationMetrics classification_;
  torch::Tensor losses_;
  double nms_seconds_ = 0;
};

/// The output for `batch` in parts of at most `part` images, which become smaller while memory
/// runs out: in evaluation no image depends on its neighbours.
NetworkOutput output_of(Network& network, const TensorBatch& batch, const EvaluateOptions& options,
                        std::int64_t& part) {
  while (true) {
    std::vector<torch::Tensor> predictions;
    std::vector<std::vector<torch::Tensor>> levels;
    try {
      for (std::int64_t begin = 0; begin < batch.size(); begin += part) {
        const std::int64_t count = std::min(part, batch.size() - begin);
        const AutocastScope autocast(options.precision, options.device);
        NetworkOutput output =
            network.forward(normalize_images(batch.images.narrow(0, begin, count)));
        if (count == batch.size()) return output;
        predictions.push_back(output.predictions);
        levels.resize(output.levels.size());
        for (std::size_t i = 0; i < levels.size(); ++i) levels[i].push_back(output.levels[i]);
      }
      NetworkOutput whole{.predictions = torch::cat(predictions)};
      for (const auto& level : levels) whole.levels.push_back(torch::cat(level));
      return whole;
    } catch (const std::exception& error) {
      if (!is_out_of_memory(error)) throw;
      if (part == 1) {
        const std::string why = error.what();
        throw Error("out of memory with a single image: " + why.substr(0, why.find('\n')),
                    {.key = "memory.limit"}, "use smaller images or a larger --memory");
      }
    }
    detail::release_device_memory(options.device);
    part = (std::min(part, batch.size()) + 1) / 2;
  }
}
}  // namespace

EvaluationResult evaluate(Network& network, BatchSource& batches, const EvaluateOptions& options) {
  const detail::Stopwatch time;
  const EvaluationScope scope(network);
  EvaluationResult result;
  result.task = network.task();
  Collector collector(network, options);
  std::int64_t part = INT64_MAX;
  batches.start(0, 0);
  while (true) {
    const detail::Stopwatch wait;
    std::optional<TensorBatch> batch = batches.next();
    result.wait_seconds += wait.seconds();
    if (!batch) break;
    batch = detail::without_padding(*batch);
    if (batch->size() == 0) continue;
    const detail::Stopwatch forward;
    NetworkOutput output = output_of(network, *batch, options, part);
    if (options.precision != Precision::Fp32) output = in_float(std::move(output));
    result.forward_seconds += forward.seconds();
    result.images += own_samples(*batch).size(0);
    if (options.objective != nullptr) collector.add_losses(*batch, output);
    if (result.task == Task::Detect) {
      collector.add_detections(*batch, output);
    } else {
      collector.add_classes(*batch, output.predictions);
    }
  }
  if (options.group != nullptr && options.group->size() > 1)
    collector.share(*options.group, result);
  collector.finish(result);
  result.seconds = time.seconds();
  return result;
}

EvaluationSummary summarize(const EvaluationResult& result) {
  EvaluationSummary summary;
  if (result.task == Task::Detect) {
    const DetectionScores& scores = result.detection;
    summary.metrics = {{"precision", scores.precision},
                       {"recall", scores.recall},
                       {"mAP_0.5", scores.map50},
                       {"mAP_0.5:0.95", scores.map50_95}};
    summary.fitness = scores.fitness();
  } else {
    summary.metrics = {{"top1", result.classification.top1}, {"top5", result.classification.top5}};
    summary.fitness = result.classification.top1;
  }
  for (std::size_t i = 0; i < result.losses.size(); ++i)
    summary.metrics.emplace_back("val_" + result.loss_names[i], result.losses[i]);
  return summary;
}

}  // namespace brim
