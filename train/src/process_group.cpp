#include "brim/train/process_group.h"

#include <algorithm>
#include <cstring>

namespace brim {
namespace {

class Done final : public PendingCollective {
 public:
  void wait() override {}
};

class SingleProcess final : public ProcessGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<PendingCollective> start_sum(torch::Tensor /*tensor*/) override {
    return std::make_unique<Done>();
  }
  void reduce(torch::Tensor /*tensor*/, Reduction /*reduction*/) override {}
  std::vector<torch::Tensor> gather(const torch::Tensor& tensor) override { return {tensor}; }
  void broadcast(torch::Tensor /*tensor*/, int /*root*/) override {}
  void leave() override {}
};

torch::Tensor bytes_of(const std::string& text) {
  torch::Tensor bytes = torch::empty({static_cast<std::int64_t>(text.size())}, torch::kByte);
  if (!text.empty()) std::memcpy(bytes.data_ptr(), text.data(), text.size());
  return bytes;
}

}  // namespace

std::shared_ptr<ProcessGroup> make_single_process() {
  return std::make_shared<SingleProcess>();
}

std::vector<torch::Tensor> gather_rows(ProcessGroup& group, const torch::Tensor& rows) {
  if (group.size() == 1) return {rows};
  const torch::Tensor own = torch::full({1}, rows.size(0), torch::kLong);
  std::vector<std::int64_t> counts;
  for (const torch::Tensor& count : group.gather(own)) counts.push_back(count.item<std::int64_t>());
  const std::int64_t most = *std::max_element(counts.begin(), counts.end());
  std::vector<std::int64_t> shape = rows.sizes().vec();
  shape[0] = most;
  torch::Tensor padded = torch::zeros(shape, rows.options());
  padded.narrow(0, 0, rows.size(0)).copy_(rows);
  std::vector<torch::Tensor> all =
      most > 0 ? group.gather(padded) : std::vector<torch::Tensor>(counts.size(), padded);
  for (std::size_t r = 0; r < all.size(); ++r) all[r] = all[r].narrow(0, 0, counts[r]);
  return all;
}

std::vector<std::string> gather_text(ProcessGroup& group, const std::string& text) {
  std::vector<std::string> all;
  for (const torch::Tensor& rows : gather_rows(group, bytes_of(text))) {
    const torch::Tensor bytes = rows.contiguous();
    all.emplace_back(static_cast<const char*>(bytes.data_ptr()),
                     static_cast<std::size_t>(bytes.numel()));
  }
  return all;
}

std::string text_of_root(ProcessGroup& group, const std::string& text) {
  if (group.size() == 1) return text;
  return gather_text(group, group.rank() == 0 ? text : std::string())[0];
}

std::int64_t smallest(ProcessGroup& group, std::int64_t value) {
  const torch::Tensor least = torch::full({1}, value, torch::kLong);
  group.reduce(least, Reduction::Min);
  return least.item<std::int64_t>();
}

}  // namespace brim
