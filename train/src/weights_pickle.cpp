#include "weights_pickle.h"

#include <c10/util/strides.h>
#include <caffe2/serialize/inline_container.h>

#include <limits>

namespace brim::detail {
namespace {

using torch::Tensor;

/// Python's name of the storage class of a type.
std::string storage_name(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat:
      return "FloatStorage";
    case torch::kDouble:
      return "DoubleStorage";
    case torch::kHalf:
      return "HalfStorage";
    case torch::kBFloat16:
      return "BFloat16Storage";
    case torch::kLong:
      return "LongStorage";
    case torch::kInt:
      return "IntStorage";
    case torch::kShort:
      return "ShortStorage";
    case torch::kChar:
      return "CharStorage";
    case torch::kByte:
      return "ByteStorage";
    case torch::kBool:
      return "BoolStorage";
    default:
      TORCH_CHECK(false, "weights of type ", type, " cannot be written");
  }
}

/// Opcodes of pickle protocol 2 (PEP 307), as few as a dictionary of tensors needs.
class Pickle {
 public:
  Pickle() { raw("\x80\x02"); }

  Pickle& raw(std::string_view bytes) {
    out_ += bytes;
    return *this;
  }
  Pickle& number(std::int64_t value) {
    if (value >= 0 && value <= std::numeric_limits<std::int32_t>::max()) {
      out_ += 'J';  // BININT
      little_endian(static_cast<std::uint64_t>(value), 4);
    } else {
      out_ += "\x8a\x08";  // LONG1 of 8 bytes
      little_endian(static_cast<std::uint64_t>(value), 8);
    }
    return *this;
  }
  Pickle& text(std::string_view value) {
    out_ += 'X';  // BINUNICODE
    little_endian(value.size(), 4);
    return raw(value);
  }
  Pickle& numbers(torch::IntArrayRef values) {
    raw("(");  // MARK
    for (const std::int64_t value : values) number(value);
    return raw("t");  // TUPLE
  }
  std::string finish() { return std::move(raw(".").out_); }

 private:
  std::string out_;

  void little_endian(std::uint64_t value, unsigned width) {
    for (unsigned i = 0; i < width; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xFFU);
  }
};

/// torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks); the
/// storage holds the tensor contiguously, however it lies in memory.
void add_tensor(Pickle& pickle, const Tensor& tensor, const std::string& key) {
  pickle.raw("ctorch._utils\n_rebuild_tensor_v2\n((");
  pickle.text("storage").raw("ctorch\n" + storage_name(tensor.scalar_type()) + "\n");
  pickle.text(key).text("cpu").number(tensor.numel()).raw("tQ");  // TUPLE, BINPERSID
  pickle.number(0).numbers(tensor.sizes()).numbers(c10::contiguous_strides(tensor.sizes()));
  pickle.raw("\x89").raw("ccollections\nOrderedDict\n)R");  // NEWFALSE; EMPTY_TUPLE, REDUCE
  pickle.raw("tR");
}

/// An archive that grows as tensors are added to its pickle.
class Archive {
 public:
  using Sink = std::function<void(std::string_view)>;
  explicit Archive(const Sink& sink)
      : writer_([&sink](const void* data, std::size_t size) {
          sink({static_cast<const char*>(data), size});
          return size;
        }) {}

  void add(const StateDict& state) {
    pickle_.raw("}(");  // EMPTY_DICT, MARK
    for (const auto& [name, tensor] : state) {
      tensors_.push_back(tensor.detach());
      pickle_.text(name);
      add_tensor(pickle_, tensors_.back(), std::to_string(tensors_.size() - 1));
    }
    pickle_.raw("u");  // SETITEMS
  }

  void add(const StateSections& sections) {
    pickle_.raw("}(");
    for (const auto& [name, section] : sections) {
      pickle_.text(name);
      if (const auto* text = std::get_if<std::string>(&section)) {
        pickle_.text(*text);
      } else {
        add(std::get<StateDict>(section));
      }
    }
    pickle_.raw("u");
  }

  void finish() {
    const std::string bytes = pickle_.finish();
    writer_.writeRecord("data.pkl", bytes.data(), bytes.size());
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      // One at a time: weights in channels-last order need a copy.
      const Tensor tensor = tensors_[i].cpu().contiguous();
      writer_.writeRecord("data/" + std::to_string(i), tensor.data_ptr(), tensor.nbytes());
    }
    writer_.writeEndOfFile();
  }

 private:
  caffe2::serialize::PyTorchStreamWriter writer_;
  Pickle pickle_;
  std::vector<Tensor> tensors_;
};

}  // namespace

std::string pickle_state(const StateDict& state) {
  std::string bytes;
  const Archive::Sink sink = [&bytes](std::string_view more) { bytes += more; };
  Archive archive(sink);
  archive.add(state);
  archive.finish();
  return bytes;
}

void pickle_sections(const StateSections& sections,
                     const std::function<void(std::string_view)>& sink) {
  Archive archive(sink);
  archive.add(sections);
  archive.finish();
}

}  // namespace brim::detail
