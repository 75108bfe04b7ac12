#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace brim::detail {

/// First in, first out; allocates only when it holds more than ever before.
template <typename T>
class RingQueue {
 public:
  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }
  const T& front() const { return items_[first_]; }
  const T& operator[](std::size_t i) const { return items_[(first_ + i) % items_.size()]; }

  void push(T item) {
    if (count_ == items_.size()) grow();
    items_[(first_ + count_) % items_.size()] = std::move(item);
    ++count_;
  }
  T pop() {
    T item = std::move(items_[first_]);
    first_ = (first_ + 1) % items_.size();
    --count_;
    return item;
  }
  void clear() { first_ = count_ = 0; }

 private:
  void grow() {
    std::vector<T> bigger(items_.empty() ? 16 : items_.size() * 2);
    for (std::size_t i = 0; i < count_; ++i)
      bigger[i] = std::move(items_[(first_ + i) % items_.size()]);
    items_ = std::move(bigger);
    first_ = 0;
  }
  std::vector<T> items_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace brim::detail
