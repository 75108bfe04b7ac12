#include "weights_archive.h"

#include <array>
#include <cstring>
#include <limits>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

using Kind = PickleNode::Kind;
using torch::Tensor;

constexpr std::size_t kMostDimensions = 64;

struct TypeName {
  std::string_view storage;  ///< "torch.<storage>"
  std::string_view dtype;    ///< "torch.<dtype>"
  torch::ScalarType type;
};
constexpr std::array<TypeName, 10> kTypes{{{"FloatStorage", "float32", torch::kFloat},
                                           {"DoubleStorage", "float64", torch::kDouble},
                                           {"HalfStorage", "float16", torch::kHalf},
                                           {"BFloat16Storage", "bfloat16", torch::kBFloat16},
                                           {"LongStorage", "int64", torch::kLong},
                                           {"IntStorage", "int32", torch::kInt},
                                           {"ShortStorage", "int16", torch::kShort},
                                           {"CharStorage", "int8", torch::kChar},
                                           {"ByteStorage", "uint8", torch::kByte},
                                           {"BoolStorage", "bool", torch::kBool}}};

/// a * b + c of numbers that are not negative; throws ArchiveFault where it leaves 64 bits.
std::int64_t multiply_add(std::int64_t a, std::int64_t b, std::int64_t c) {
  std::int64_t product = 0, sum = 0;
  if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &sum))
    throw ArchiveFault("the size of a tensor is beyond all measure");
  return sum;
}

/// Elements of the storage that a tensor reaches: one past the last.
std::int64_t reach(const std::vector<std::int64_t>& sizes, const std::vector<std::int64_t>& strides,
                   std::int64_t offset) {
  std::int64_t elements = 1;
  std::int64_t last = offset;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    elements = multiply_add(elements, sizes[i], 0);
    if (sizes[i] > 0) last = multiply_add(sizes[i] - 1, strides[i], last);
  }
  return elements == 0 ? offset : multiply_add(last, 1, 1);
}

}  // namespace

bool WeightsArchive::begins(std::string_view bytes) {
  return bytes.starts_with("PK\x03\x04");
}

WeightsArchive::WeightsArchive(std::vector<char> bytes, std::string path)
    : bytes_(std::move(bytes)), path_(std::move(path)) {
  constexpr std::string_view kPickle = "data.pkl";
  const ZipEntry* pickle = nullptr;
  for (ZipEntry& entry : read_zip({bytes_.data(), bytes_.size()})) {
    const std::string name = entry.name;
    const ZipEntry& kept = members_.insert_or_assign(name, std::move(entry)).first->second;
    if (name == kPickle || name.ends_with("/data.pkl")) {
      pickle = &kept;
      folder_ = name.substr(0, name.size() - kPickle.size());
    }
  }
  if (pickle == nullptr)
    throw Error("is no PyTorch file, but a zip archive of other things", {.file = path_},
                "expected what Python's torch.save(model.state_dict(), path) writes");
  for (const auto& [name, entry] : members_)
    if (entry.compressed)
      throw Error("'" + name + "' in it is compressed, which PyTorch never does", {.file = path_},
                  "unpack it and pack it again with zip -0 -r");
  const auto order = members_.find(folder_ + "byteorder");
  if (order != members_.end() && order->second.data != "little")
    throw Error("was written on a machine of the other byte order", {.file = path_},
                "load it and save it again with PyTorch on this machine");
  tree_ = unpickle(pickle->data);
}

std::vector<std::pair<std::string_view, const PickleNode*>> WeightsArchive::entries(
    const PickleNode& dict) const {
  std::vector<std::pair<std::string_view, const PickleNode*>> result;
  if (dict.kind != Kind::Dict) return result;
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleNode& key = tree_[dict.items[i]];
    const PickleNode& value = tree_[dict.items[i + 1]];
    if (key.kind != Kind::Text) continue;
    const auto [place, is_new] = places.emplace(key.text, result.size());
    if (is_new) {
      result.emplace_back(key.text, &value);
    } else {
      result[place->second].second = &value;
    }
  }
  return result;
}

const PickleNode* WeightsArchive::find(const PickleNode& dict, std::string_view name) const {
  if (dict.kind != Kind::Dict) return nullptr;
  for (std::size_t i = dict.items.size() / 2; i-- > 0;) {
    const PickleNode& key = tree_[dict.items[2 * i]];
    if (key.kind == Kind::Text && key.text == name) return &tree_[dict.items[2 * i + 1]];
  }
  return nullptr;
}

torch::ScalarType WeightsArchive::type_of(std::string_view name) const {
  std::string_view plain = name;
  for (const std::string_view module : {"torch.cuda.", "torch."})
    if (plain.starts_with(module)) {
      plain.remove_prefix(module.size());
      break;
    }
  for (const TypeName& type : kTypes)
    if (plain == type.storage || plain == type.dtype) return type.type;
  throw Error("holds tensors of " + std::string(name) + ", which brim does not know",
              {.file = path_},
              "convert them before saving: {k: v.float() for k, v in state.items()}");
}

std::vector<std::int64_t> WeightsArchive::sides(PickleRef ref) const {
  const PickleNode& node = tree_[ref];
  if ((node.kind != Kind::Tuple && node.kind != Kind::List) || node.items.size() > kMostDimensions)
    throw ArchiveFault("a tensor has no shape");
  std::vector<std::int64_t> result;
  for (const PickleRef item : node.items) {
    if (tree_[item].kind != Kind::Integer || tree_[item].integer < 0)
      throw ArchiveFault("a tensor has a size or stride below zero");
    result.push_back(tree_[item].integer);
  }
  return result;
}

const Tensor& WeightsArchive::storage(const PickleNode& node, torch::ScalarType type) {
  const auto [place, is_new] = storages_.try_emplace({node.text, type});
  if (!is_new) return place->second;
  const auto found = members_.find(folder_ + "data/" + std::string(node.text));
  if (found == members_.end())
    throw ArchiveFault("the record 'data/" + std::string(node.text) + "' of a tensor is missing");
  const std::string_view raw = found->second.data;
  const auto width = static_cast<std::int64_t>(torch::elementSize(type));
  const auto elements = static_cast<std::int64_t>(raw.size()) / width;
  // Copied: records lie at any byte of the file, and the file goes before its tensors do.
  const bool flags = type == torch::kBool;
  Tensor values = torch::empty({elements}, flags ? torch::kByte : type);
  if (elements > 0)
    std::memcpy(values.data_ptr(), raw.data(), static_cast<std::size_t>(elements * width));
  return place->second = flags ? values.ne(0) : values;
}

Tensor WeightsArchive::tensor(const PickleNode& node) {
  // (storage, offset, sizes, strides, ...); the seventh of version 3 is the type.
  const std::vector<PickleRef>& arguments = node.items;
  if (node.kind != Kind::Tensor || arguments.size() < 4 ||
      tree_[arguments[0]].kind != Kind::Storage || tree_[arguments[1]].kind != Kind::Integer)
    throw ArchiveFault("a tensor is made of something else than a storage");
  const PickleNode& source = tree_[arguments[0]];
  const bool typed_apart = node.text.ends_with("_v3");
  if (typed_apart && (arguments.size() < 7 || tree_[arguments[6]].kind != Kind::Global))
    throw ArchiveFault("a tensor has no type");
  const PickleNode& type_node = tree_[typed_apart ? arguments[6] : source.items[0]];
  const torch::ScalarType type = type_of(type_node.text);
  const std::int64_t offset = tree_[arguments[1]].integer;
  const auto sizes = sides(arguments[2]);
  const auto strides = sides(arguments[3]);
  if (offset < 0 || sizes.size() != strides.size()) throw ArchiveFault("a tensor has no shape");
  const std::int64_t needed = reach(sizes, strides, offset);
  const Tensor& values = storage(source, type);
  const std::int64_t said = typed_apart ? values.numel() : source.integer;
  if (needed > values.numel() || needed > said)
    throw ArchiveFault("a tensor reaches beyond the end of 'data/" + std::string(source.text) +
                       "'");
  return values.as_strided(sizes, strides, offset);
}

}  // namespace brim::detail
