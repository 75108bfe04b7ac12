#include "weights_unpickle.h"

#include <bit>
#include <cstdio>
#include <limits>
#include <unordered_map>

#include "weights_unpickle_calls.h"

namespace brim::detail {
namespace {

using Kind = PickleNode::Kind;

/// The stack machine of pickles. Nothing here recurses: depth of nesting costs no stack.
class Machine {
 public:
  explicit Machine(std::string_view bytes) : bytes_(bytes) {
    none_ = add_node(tree_, {});
    false_ = add_node(tree_, {.kind = Kind::Bool, .integer = 0});
    true_ = add_node(tree_, {.kind = Kind::Bool, .integer = 1});
  }

  PickleTree run() {
    while (true) {
      const auto code = static_cast<unsigned char>(take(1)[0]);
      if (code == '.') break;
      if (!value(code) && !text(code) && !memo(code) && !container(code) && !object(code) &&
          !stack(code)) {
        char name[8];
        std::snprintf(name, sizeof name, "0x%02x", code);
        throw ArchiveFault(std::string("its pickle has an instruction of no known meaning, ") +
                           name);
      }
    }
    tree_.root = pop();
    if (!stack_.empty() || !marks_.empty()) throw ArchiveFault("its pickle ends too early");
    return std::move(tree_);
  }

 private:
  // Input.
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_) throw ArchiveFault("its pickle ends too early");
    const std::string_view result = bytes_.substr(at_, count);
    at_ += count;
    return result;
  }
  std::uint64_t number(unsigned width) {
    const std::string_view raw = take(width);
    std::uint64_t result = 0;
    for (unsigned i = 0; i < width; ++i)
      result |= static_cast<std::uint64_t>(static_cast<unsigned char>(raw[i])) << (8 * i);
    return result;
  }
  std::string_view line() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) throw ArchiveFault("its pickle ends inside a name");
    const std::string_view result = take(end - at_);
    at_ = end + 1;
    return result;
  }

  // The stack above the last mark.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleRef top() const {
    if (stack_.size() <= floor()) throw ArchiveFault("its pickle takes from an empty stack");
    return stack_.back();
  }
  PickleRef pop() {
    const PickleRef result = top();
    stack_.pop_back();
    return result;
  }
  void push(PickleRef value) {
    if (stack_.size() >= kMostValues) throw ArchiveFault("its pickle grows without end");
    stack_.push_back(value);
  }
  void push(PickleNode node) { push(add_node(tree_, std::move(node))); }
  std::vector<PickleRef> pop_last(std::size_t count) {
    if (stack_.size() - floor() < count) throw ArchiveFault("its pickle takes from an empty stack");
    std::vector<PickleRef> result(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return result;
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) throw ArchiveFault("its pickle lacks a mark");
    std::vector<PickleRef> result = pop_last(stack_.size() - marks_.back());
    marks_.pop_back();
    return result;
  }

  bool value(unsigned char code) {
    switch (code) {
      case 'N':
        return push(none_), true;
      case 0x88:
        return push(true_), true;
      case 0x89:
        return push(false_), true;
      case 'K':
        return push_integer(static_cast<std::int64_t>(number(1))), true;
      case 'M':
        return push_integer(static_cast<std::int64_t>(number(2))), true;
      case 'J':
        return push_integer(static_cast<std::int32_t>(number(4))), true;
      case 0x8A:
        return push_long(take(number(1))), true;
      case 0x8B:
        return push_long(take(number(4))), true;
      case 'G':
        return push({.kind = Kind::Real, .real = big_endian_real()}), true;
      default:
        return false;
    }
  }

  void push_integer(std::int64_t value) { push({.kind = Kind::Integer, .integer = value}); }

  /// Two's complement, little-endian, of any length; what does not fit 64 bits is of no use here.
  void push_long(std::string_view raw) {
    if (raw.size() > 8) return push({.kind = Kind::Object, .text = "int"});
    std::uint64_t bits =
        !raw.empty() && (raw.back() & 0x80) != 0 ? std::numeric_limits<std::uint64_t>::max() : 0;
    for (std::size_t i = raw.size(); i-- > 0;)
      bits = bits << 8 | static_cast<unsigned char>(raw[i]);
    push_integer(static_cast<std::int64_t>(bits));
  }

  double big_endian_real() {
    std::uint64_t bits = 0;
    for (const char c : take(8)) bits = bits << 8 | static_cast<unsigned char>(c);
    return std::bit_cast<double>(bits);
  }

  bool text(unsigned char code) {
    switch (code) {
      case 'X':
        return push({.kind = Kind::Text, .text = take(number(4))}), true;
      case 0x8C:
        return push({.kind = Kind::Text, .text = take(number(1))}), true;
      case 0x8D:
        return push({.kind = Kind::Text, .text = take(number(8))}), true;
      case 'U':  // Python 2's str, whose names are text as well
        return push({.kind = Kind::Text, .text = take(number(1))}), true;
      case 'T':
        return push({.kind = Kind::Text, .text = take(number(4))}), true;
      case 'C':
        return push({.kind = Kind::Bytes, .text = take(number(1))}), true;
      case 'B':
        return push({.kind = Kind::Bytes, .text = take(number(4))}), true;
      case 0x8E:
      case 0x96:
        return push({.kind = Kind::Bytes, .text = take(number(8))}), true;
      default:
        return false;
    }
  }

  bool memo(unsigned char code) {
    switch (code) {
      case 'q':
        return remember(number(1)), true;
      case 'r':
        return remember(number(4)), true;
      case 0x94:
        return remember(memo_.size()), true;
      case 'h':
        return push(remembered(number(1))), true;
      case 'j':
        return push(remembered(number(4))), true;
      default:
        return false;
    }
  }

  void remember(std::uint64_t index) {
    if (memo_.size() >= kMostValues) throw ArchiveFault("its pickle grows without end");
    memo_[index] = top();
  }
  PickleRef remembered(std::uint64_t index) const {
    const auto found = memo_.find(index);
    if (found == memo_.end()) throw ArchiveFault("its pickle refers to a value it does not have");
    return found->second;
  }

  bool container(unsigned char code) {
    switch (code) {
      case ')':
        return push({.kind = Kind::Tuple}), true;
      case 0x85:
      case 0x86:
      case 0x87: {
        auto items = pop_last(code - 0x84U);
        return push({.kind = Kind::Tuple, .items = std::move(items)}), true;
      }
      case 't':
        return push({.kind = Kind::Tuple, .items = pop_to_mark()}), true;
      case ']':
        return push({.kind = Kind::List}), true;
      case '}':
        return push({.kind = Kind::Dict}), true;
      case 0x8F:
        return push({.kind = Kind::Set}), true;
      case 0x91:
        return push({.kind = Kind::Set, .items = pop_to_mark()}), true;
      case 'a':
        return extend(Kind::List, pop_last(1)), true;
      case 'e':
        return extend(Kind::List, pop_to_mark()), true;
      case 0x90:
        return extend(Kind::Set, pop_to_mark()), true;
      case 's':
        return extend(Kind::Dict, pop_last(2)), true;
      case 'u':
        return extend(Kind::Dict, pop_to_mark()), true;
      default:
        return false;
    }
  }

  /// Adds `items` to the container on top; an Object, whatever it may be, takes them in silence.
  void extend(Kind kind, const std::vector<PickleRef>& items) {
    PickleNode& target = tree_.nodes[top()];
    if (target.kind == Kind::Object) return;
    if (target.kind != kind || (kind == Kind::Dict && items.size() % 2 != 0))
      throw ArchiveFault("its pickle adds to something that is no such container");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  bool object(unsigned char code) {
    switch (code) {
      case 'c': {
        const std::string_view module = line();
        return push_global(module, line()), true;
      }
      case 0x93: {
        const auto names = pop_last(2);
        if (tree_[names[0]].kind != Kind::Text || tree_[names[1]].kind != Kind::Text)
          throw ArchiveFault("its pickle names a class by something else than text");
        return push_global(tree_[names[0]].text, tree_[names[1]].text), true;
      }
      case 'R': {
        const auto parts = pop_last(2);
        return push(call(tree_, parts[0], parts[1])), true;
      }
      case 0x81:
        return push(make_object(tree_, pop_last(2)[0])), true;
      case 0x92:
        return push(make_object(tree_, pop_last(3)[0])), true;
      case 'b':  // attributes, as the _metadata of a state_dict, carry no weights
        pop();
        return top(), true;
      case 'Q':
        return push(persistent(tree_, pop())), true;
      default:
        return false;
    }
  }

  void push_global(std::string_view module, std::string_view name) {
    tree_.names.push_back(std::string(module) + "." + std::string(name));
    push({.kind = Kind::Global, .text = tree_.names.back()});
  }

  bool stack(unsigned char code) {
    switch (code) {
      case '(':
        if (marks_.size() >= kMostValues) throw ArchiveFault("its pickle grows without end");
        return marks_.push_back(stack_.size()), true;
      case '0':
        return pop(), true;
      case '1':
        return pop_to_mark(), true;
      case '2':
        return push(top()), true;
      case 0x80:
        if (number(1) > 5) throw ArchiveFault("its pickle is of an unknown protocol");
        return true;
      case 0x95:
        if (number(8) > bytes_.size() - at_) throw ArchiveFault("its pickle ends too early");
        return true;
      default:
        return false;
    }
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  PickleTree tree_;
  std::vector<PickleRef> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleRef> memo_;
  PickleRef none_ = 0, false_ = 0, true_ = 0;
};

}  // namespace

PickleTree unpickle(std::string_view pickle) {
  return Machine(pickle).run();
}

}  // namespace brim::detail
