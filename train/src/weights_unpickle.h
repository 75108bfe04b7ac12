#pragma once

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace brim::detail {

/// The bytes of a file of weights contradict themselves: cut short, damaged or made to deceive.
struct ArchiveFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Index of a value in PickleTree::nodes.
using PickleRef = std::uint32_t;

/// One value that a pickle describes.
struct PickleNode {
  enum class Kind : std::uint8_t {
    None,
    Bool,     ///< integer
    Integer,  ///< integer
    Real,     ///< real
    Text,     ///< text
    Bytes,    ///< text
    Tuple,    ///< items
    List,     ///< items
    Set,      ///< items
    Dict,     ///< items: key, value, key, value; the last of equal keys holds
    Global,   ///< text: "module.name" of a class or function
    Storage,  ///< text: its record; integer: its elements; items: the class that names their type
    Tensor,   ///< items: the arguments of text, torch._utils._rebuild_tensor*
    Object    ///< text: the class or function that would make it; nothing else is kept
  };
  Kind kind = Kind::None;
  std::int64_t integer = 0;
  double real = 0;
  std::string_view text{};
  std::vector<PickleRef> items{};
};

/// What a pickle describes. Values may be shared, and containers may hold themselves.
struct PickleTree {
  std::deque<PickleNode> nodes{};
  std::deque<std::string> names{};  ///< of globals; nodes look at them
  std::size_t copied_items = 0;     ///< by calls, which may use the same list again and again
  PickleRef root = 0;

  const PickleNode& operator[](PickleRef index) const { return nodes[index]; }
};

/// Reads a pickle of protocol 2 to 5 as torch.save writes it (PEP 307, PEP 3154, PEP 574). Nothing
/// that it names is imported or run: of callables, those that make dictionaries, parameters and
/// tensors are understood, any other gives an Object. Texts of the result look into `pickle`.
/// Memory is bounded by its length. Throws ArchiveFault.
PickleTree unpickle(std::string_view pickle);

}  // namespace brim::detail
