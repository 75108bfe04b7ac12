#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "brim/train/weights.h"
#include "weights_file.h"
#include "weights_unpickle.h"

namespace brim::detail {

/// A file that Python's torch.save (1.6 or newer), LibTorch's pickle_save or brim wrote, held in
/// memory. Tensors are made when they are asked for; those that shared a storage share it again.
///
///   WeightsArchive archive(read_bytes(path), path);
///   for (const auto& [name, value] : archive.entries(archive.root()))
///     if (value->kind == PickleNode::Kind::Tensor) state.emplace_back(name,
///     archive.tensor(*value));
class WeightsArchive {
 public:
  /// Whether `bytes` begin as such a file does.
  static bool begins(std::string_view bytes);

  /// Throws ArchiveFault, and Error (naming `path`) for what is whole but not of PyTorch's making.
  WeightsArchive(std::vector<char> bytes, std::string path);

  const PickleNode& root() const { return tree_[tree_.root]; }
  /// Of a Dict: the values under texts, in order; the last of equal texts holds.
  std::vector<std::pair<std::string_view, const PickleNode*>> entries(const PickleNode& dict) const;
  /// The value under `name`; null where `dict` is no Dict or has none.
  const PickleNode* find(const PickleNode& dict, std::string_view name) const;
  /// Throws ArchiveFault where the tensor does not lie within its storage, Error where its type is
  /// none of float, double, half, bfloat16, bool and the integers.
  torch::Tensor tensor(const PickleNode& node);

 private:
  torch::ScalarType type_of(std::string_view name) const;
  const torch::Tensor& storage(const PickleNode& node, torch::ScalarType type);
  std::vector<std::int64_t> sides(PickleRef ref) const;

  std::vector<char> bytes_;
  std::string path_;
  std::unordered_map<std::string, ZipEntry> members_;
  std::string folder_;  ///< that the records lie in
  PickleTree tree_;
  std::map<std::pair<std::string_view, torch::ScalarType>, torch::Tensor> storages_;
};

/// read_state_dict() of a file's bytes; `path` is only named.
StateDict parse_state_dict(std::vector<char> bytes, const std::string& path);

}  // namespace brim::detail
