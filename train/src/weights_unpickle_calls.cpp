// The few callables that pickles of weights refer to.
#include "weights_unpickle_calls.h"

#include <algorithm>
#include <array>

namespace brim::detail {
namespace {

using Kind = PickleNode::Kind;

template <std::size_t N>
bool is_one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 4> kDictionaries{
    "collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"};
constexpr std::array<std::string_view, 3> kTensors{"torch._utils._rebuild_tensor",
                                                   "torch._utils._rebuild_tensor_v2",
                                                   "torch._utils._rebuild_tensor_v3"};
/// Those that give back their first argument, as far as weights go.
constexpr std::array<std::string_view, 8> kFirstArgument{
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.Size",
    "torch.jit._pickle.restore_type_tag",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist"};
constexpr std::string_view kFromType = "torch._tensor._rebuild_from_type_v2";

/// Before a call copies `count` items of a container, which a pickle names again in two bytes.
void count_copies(PickleTree& tree, std::size_t count) {
  if (count > kMostValues - tree.copied_items)
    throw ArchiveFault("it copies more values than weights ever need");
  tree.copied_items += count;
}

/// The pairs of OrderedDict([(k, v), ...]), as Python 2 wrote it.
PickleRef make_dictionary(PickleTree& tree, const std::vector<PickleRef>& arguments) {
  PickleNode dictionary{.kind = Kind::Dict};
  if (arguments.size() == 1 && tree[arguments[0]].kind == Kind::List) {
    count_copies(tree, 2 * tree[arguments[0]].items.size());
    for (const PickleRef entry : tree[arguments[0]].items) {
      const PickleNode& pair = tree[entry];
      if ((pair.kind != Kind::List && pair.kind != Kind::Tuple) || pair.items.size() != 2)
        throw ArchiveFault("a dictionary is made of something else than pairs");
      dictionary.items.insert(dictionary.items.end(), pair.items.begin(), pair.items.end());
    }
  }
  return add_node(tree, std::move(dictionary));
}

}  // namespace

PickleRef add_node(PickleTree& tree, PickleNode node) {
  if (tree.nodes.size() >= kMostValues)
    throw ArchiveFault("it holds more values than weights ever need");
  tree.nodes.push_back(std::move(node));
  return static_cast<PickleRef>(tree.nodes.size() - 1);
}

PickleRef call(PickleTree& tree, PickleRef callable, PickleRef arguments) {
  if (tree[arguments].kind != Kind::Tuple) throw ArchiveFault("a call has no arguments");
  if (tree[callable].kind != Kind::Global) return make_object(tree, callable);
  if (tree[callable].text == kFromType && tree[arguments].items.size() >= 3) {
    // (function, type, arguments, state): tensors that carry attributes.
    const PickleRef function = tree[arguments].items[0];
    const PickleRef inner = tree[arguments].items[2];
    if (tree[function].text != kFromType && tree[inner].kind == Kind::Tuple) {
      callable = function;
      arguments = inner;
    }
  }
  const std::string_view name = tree[callable].text;
  const std::vector<PickleRef>& items = tree[arguments].items;
  if (is_one_of(name, kDictionaries)) return make_dictionary(tree, items);
  if (is_one_of(name, kTensors)) {
    count_copies(tree, items.size());
    return add_node(tree, {.kind = Kind::Tensor, .text = name, .items = items});
  }
  if (is_one_of(name, kFirstArgument) && !items.empty()) return items[0];
  return make_object(tree, callable);
}

PickleRef make_object(PickleTree& tree, PickleRef type) {
  const PickleNode& node = tree[type];
  if (node.kind == Kind::Global && is_one_of(node.text, kDictionaries))
    return add_node(tree, {.kind = Kind::Dict});
  const bool named = node.kind == Kind::Global || node.kind == Kind::Object;
  return add_node(tree, {.kind = Kind::Object, .text = named ? node.text : "unnamed"});
}

PickleRef persistent(PickleTree& tree, PickleRef id) {
  // ('storage', class, record, device, elements)
  const std::vector<PickleRef>& items = tree[id].items;
  const bool plain = tree[id].kind == Kind::Tuple && items.size() >= 5 &&
                     tree[items[0]].kind == Kind::Text && tree[items[0]].text == "storage" &&
                     tree[items[1]].kind == Kind::Global && tree[items[2]].kind == Kind::Text &&
                     tree[items[4]].kind == Kind::Integer;
  if (!plain) return add_node(tree, {.kind = Kind::Object, .text = "a persistent id"});
  return add_node(tree, {.kind = Kind::Storage,
                         .integer = tree[items[4]].integer,
                         .text = tree[items[2]].text,
                         .items = {items[1]}});
}

}  // namespace brim::detail
