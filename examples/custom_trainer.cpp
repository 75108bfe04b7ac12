// Somebody else's model and training loop: brim's loader brings the data, find_batch chooses how
// many images go through at once, SurvivingStep repeats a step in smaller parts when memory runs
// out.
#include <torch/torch.h>

#include <iostream>

#include "brim/autotune/find_batch.h"
#include "brim/train/batch_source.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/surviving_step.h"

namespace nn = torch::nn;
/// Grey squares of 32 x 32 pixels whose brightness is their class.
class Squares : public brim::Dataset {
 public:
  Squares() : pixels_(kCount * kArea) {
    for (std::size_t i = 0; i < pixels_.size(); ++i)
      pixels_[i] = static_cast<std::byte>(60 * (i / kArea % 4));
  }
  std::int64_t size() const override { return kCount; }
  brim::Record record(std::int64_t index, brim::RecordScratch&) const override {
    brim::Record record;
    record.memory = std::span(pixels_).subspan(index * kArea, kArea);
    record.source = {"squares", std::uint64_t(index) * kArea, kArea};
    record.encoding = brim::Encoding::RawGray;
    record.width = record.height = 32;
    record.class_id = static_cast<std::int32_t>(index % 4);
    return record;
  }
  brim::Task task() const override { return brim::Task::Classify; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return kCount; }
  std::string path(std::int64_t index) const override { return "square " + std::to_string(index); }

 private:
  static constexpr std::int64_t kCount = 2048;
  static constexpr std::int64_t kArea = 32 * 32;
  std::vector<std::byte> pixels_;
  std::vector<std::string> names_{"black", "dark", "light", "white"};
};

nn::Sequential make_model() {
  return nn::Sequential(nn::Conv2d(nn::Conv2dOptions(3, 16, 3).stride(2)), nn::BatchNorm2d(16),
                        nn::ReLU(), nn::AdaptiveAvgPool2d(1), nn::Flatten(), nn::Linear(16, 4));
}

torch::Tensor loss_of(nn::Sequential& model, const torch::Tensor& images,
                      const torch::Tensor& classes) {
  using Options = nn::functional::CrossEntropyFuncOptions;
  return nn::functional::cross_entropy(model->forward(brim::normalize_images(images)), classes,
                                       Options().reduction(torch::kSum));
}

int main(int argc, char** argv) {
  const auto probe = brim::autotune::take_probe_request(argc, argv);  // a child measures one size
  nn::Sequential model = make_model();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto made_up_step = [&](std::int64_t n) {
    loss_of(model, torch::zeros({n, 3, 32, 32}, torch::kByte), torch::zeros({n}, torch::kLong))
        .backward();
    optimizer.step();
    optimizer.zero_grad();
  };
  if (probe) return brim::autotune::answer_probe(*probe, made_up_step);
  const auto plan = brim::autotune::find_batch_isolated(argc, argv);
  std::cout << plan.why << "\n";

  brim::install_cpu_allocator();
  brim::Loader loader(std::make_shared<Squares>(), brim::make_classification_transform(32, {}),
                      {.batch_size = plan.batch, .seed = 7});
  const auto batches = brim::make_batch_source(loader, torch::kCPU);
  brim::SurvivingStep surviving(*model);
  double loss = 0;
  for (int epoch = 0; epoch < 3; ++epoch) {
    loss = 0;
    batches->start(epoch, 0);
    for (int number = 0; const auto batch = batches->next(); ++number) {
      if (epoch == 1 && number == 0) brim::inject_allocation_failure(20);  // as if full
      double sum = 0;
      const auto step = surviving.run(*batch, [&](const brim::StepPart& part) {
        if (part.first == 0) sum = 0;
        const auto part_loss = loss_of(model, part.batch.images, part.batch.class_ids);
        (part_loss / static_cast<double>(batch->size())).backward();
        sum += part_loss.item<double>();
      });
      if (step.reduced) std::cout << "repeated in " << step.parts << " parts: " << step.why << "\n";
      optimizer.step();
      optimizer.zero_grad();
      loss += sum / static_cast<double>(loader.samples_per_epoch());
    }
  }
  std::cout << "loss " << loss << "\n";
  return loss < 1.2 && surviving.failures() == 1 ? 0 : 1;
}
