#include "brim/cache/error.h"
#include "brim/dataloader/random.h"
#include "trainer_impl.h"

namespace brim {
namespace {

/// Samples at the end of `batch` that stand past the epoch's end.
std::int64_t padding_of(const TensorBatch& batch) {
  std::int64_t padding = 0;
  for (auto sample = batch.samples.rbegin(); sample != batch.samples.rend() && sample->padding;
       ++sample)
    ++padding;
  return padding;
}

/// A tensor of every rank becomes that of rank 0.
void copy_from_root(ProcessGroup& group, const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  torch::Tensor values = tensor.detach().clone(torch::MemoryFormat::Contiguous);
  group.broadcast(values, 0);
  tensor.detach().copy_(values);
}

}  // namespace

TensorBatch detail::without_padding(const TensorBatch& batch) {
  return slice(batch, 0, batch.size() - padding_of(batch));
}

void Trainer::Impl::join_ranks() {
  if (!together()) return;
  if (options.batch_size % options.group->size() != 0)
    throw Error("a batch of " + std::to_string(options.batch_size) +
                    " images cannot be shared by " + std::to_string(options.group->size()) +
                    " ranks",
                {.key = "train.batch"}, "use a multiple of the number of ranks");
  for (const torch::Tensor& parameter : network->parameters())
    copy_from_root(*options.group, parameter);
  for (const torch::Tensor& buffer : network->buffers()) copy_from_root(*options.group, buffer);
  statistics->group = options.group;
  reducer = std::make_unique<detail::GradientReducer>(*network, options.group);
  own_generator();
}

/// Dropout draws other numbers on every rank.
void Trainer::Impl::own_generator() {
  if (!together() || options.group->rank() == 0) return;
  torch::manual_seed(mix64(mix64(options.seed, static_cast<std::uint64_t>(step)),
                           static_cast<std::uint64_t>(options.group->rank())));
}

/// What all ranks do at this step: how many images it has in all, whether the run ends or is saved
/// after it, and the smallest parts any of them asks for.
void Trainer::Impl::agree(const TensorBatch& batch_here) {
  const std::chrono::duration<double, std::ratio<60>> since =
      std::chrono::steady_clock::now() - saved_at;
  agreed = {.images = batch_here.size() - padding_of(batch_here),
            .stop = options.stop != nullptr && options.stop->load(std::memory_order_relaxed),
            .save = options.checkpoint_minutes > 0 && since.count() >= options.checkpoint_minutes,
            .parts = wished.parts,
            .recompute = wished.recompute};
  wished = {};
  if (!together()) return;
  const torch::Tensor own =
      torch::tensor({agreed.images, std::int64_t{agreed.stop}, std::int64_t{agreed.save},
                     agreed.parts, std::int64_t{agreed.recompute}},
                    torch::kLong);
  agreed = {};
  for (const torch::Tensor& rank : options.group->gather(own)) {
    const auto* values = rank.data_ptr<std::int64_t>();
    agreed.images += values[0];
    agreed.stop |= values[1] != 0;
    agreed.save |= values[2] != 0;
    if (values[3] > 0)
      agreed.parts = agreed.parts > 0 ? std::min(agreed.parts, values[3]) : values[3];
    agreed.recompute |= values[4] != 0;
  }
  if (agreed.recompute) network->set_activations(Activations::Recompute);
}

/// The batch of all ranks as far as losses need it: number of images, targets and classes.
TensorBatch Trainer::Impl::batch_of_all(const TensorBatch& batch_here) {
  const TensorBatch own = detail::without_padding(batch_here);
  TensorBatch all;
  all.number = own.number;
  std::vector<std::int64_t> sizes = batch_here.images.sizes().vec();
  sizes[0] = 1;
  const torch::Tensor one = torch::empty(sizes, batch_here.images.options());
  sizes[0] = agreed.images;
  all.images = one.expand(sizes);
  if (own.class_ids.defined())
    all.class_ids =
        torch::cat(gather_rows(*options.group, own.class_ids.cpu())).to(own.class_ids.device());
  if (!own.targets.defined()) return all;
  std::vector<torch::Tensor> targets = gather_rows(*options.group, own.targets.cpu().contiguous());
  // Which image a target belongs to is known by its rank alone; losses of a whole ask for no more
  // than that images differ.
  const std::int64_t each = batch_here.size();
  for (std::size_t r = 0; r < targets.size(); ++r)
    targets[r].select(1, 0).add_(static_cast<double>(static_cast<std::int64_t>(r) * each));
  all.targets = torch::cat(targets).to(own.targets.device());
  return all;
}

/// Gradients accumulated so far, of all ranks; by parameter of the network, undefined where frozen.
std::vector<torch::Tensor> Trainer::Impl::window_gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : network->parameters()) {
    torch::Tensor gradient = parameter.grad();
    if (together() && window_images > 0 && parameter.requires_grad()) {
      torch::Tensor sum = gradient.defined()
                              ? gradient.clone(torch::MemoryFormat::Contiguous)
                              : torch::zeros(parameter.sizes(), parameter.detach().options());
      options.group->reduce(sum, Reduction::Sum);
      gradient = sum;
    }
    gradients.push_back(gradient);
  }
  return gradients;
}

}  // namespace brim
