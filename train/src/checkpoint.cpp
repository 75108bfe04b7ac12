#include "brim/train/checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "brim/cache/error.h"
#include "brim/cache/key.h"

namespace brim {
namespace {
using nlohmann::json;
constexpr int kFormat = 1;

struct Section {
  const char* name;
  TensorMap Checkpoint::*map;
};
constexpr Section kSections[] = {{"model", &Checkpoint::model},
                                 {"ema", &Checkpoint::ema},
                                 {"optimizer", &Checkpoint::optimizer},
                                 {"gradients", &Checkpoint::gradients},
                                 {"generators", &Checkpoint::generators}};

json to_json(const CheckpointInfo& i) {
  return {{"network", i.network},
          {"class_names", i.class_names},
          {"config", i.config},
          {"data_id", i.data_id},
          {"optimizer", i.optimizer},
          {"epoch", i.epoch},
          {"batch", i.batch},
          {"batches_per_epoch", i.batches_per_epoch},
          {"step", i.step},
          {"last_optimizer_step", i.last_optimizer_step},
          {"window_images", i.window_images},
          {"ema_updates", i.ema_updates},
          {"seed", i.seed},
          {"loss_scale", i.loss_scale},
          {"loss_scale_good_steps", i.loss_scale_good_steps},
          {"best_fitness", i.best_fitness},
          {"best_epoch", i.best_epoch},
          {"component_images", i.component_images}};
}

CheckpointInfo from_json(const json& j) {
  CheckpointInfo i;
  i.network = j.at("network");
  i.class_names = j.at("class_names").get<std::vector<std::string>>();
  i.config = j.at("config");
  i.data_id = j.at("data_id");
  i.optimizer = j.at("optimizer");
  i.epoch = j.at("epoch");
  i.batch = j.at("batch");
  i.batches_per_epoch = j.at("batches_per_epoch");
  i.step = j.at("step");
  i.last_optimizer_step = j.at("last_optimizer_step");
  i.window_images = j.at("window_images");
  i.ema_updates = j.at("ema_updates");
  i.seed = j.at("seed");
  i.loss_scale = j.at("loss_scale");
  i.loss_scale_good_steps = j.at("loss_scale_good_steps");
  i.best_fitness = j.at("best_fitness");
  i.best_epoch = j.at("best_epoch");
  i.component_images = j.at("component_images");
  return i;
}

/// XXH3 over names and bytes of all tensors, in name order.
std::uint64_t checksum(const Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const Section& section : kSections) {
    for (const auto& [name, tensor] : checkpoint.*section.map) {
      sum = checksum64(std::as_bytes(std::span(name)), sum);
      const torch::Tensor plain = tensor.detach().contiguous().cpu();
      sum = checksum64({static_cast<const std::byte*>(plain.data_ptr()), plain.nbytes()}, sum);
    }
  }
  return sum;
}

std::vector<char> encode(const Checkpoint& checkpoint) {
  c10::impl::GenericDict file(c10::StringType::get(), c10::AnyType::get());
  for (const Section& section : kSections) {
    c10::Dict<std::string, torch::Tensor> dict;
    for (const auto& [name, tensor] : checkpoint.*section.map)
      dict.insert(name, tensor.detach().contiguous().cpu());
    file.insert(section.name, c10::IValue(dict));
  }
  json about = to_json(checkpoint.info);
  about["format"] = kFormat;
  about["checksum"] = checksum(checkpoint);
  file.insert("brim", c10::IValue(about.dump()));
  return torch::pickle_save(c10::IValue(file));
}

[[noreturn]] void damaged(const std::string& path, const std::string& how) {
  throw Error("the checkpoint is damaged or cut short (" + how + ")", {.file = path},
              "use the other of last.pt and best.pt, or an earlier copy");
}

std::vector<char> read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in)
    throw Error(std::string("cannot open checkpoint: ") + std::strerror(errno), {.file = path});
  std::vector<char> bytes(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw Error(std::string("cannot read checkpoint: ") + std::strerror(errno), {.file = path});
  return bytes;
}

c10::impl::GenericDict decode(const std::string& path, const std::vector<char>& bytes) {
  c10::IValue value;
  try {
    value = torch::pickle_load(bytes);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    damaged(path, text.substr(0, text.find('\n')));
  }
  if (!value.isGenericDict())
    throw Error("not a checkpoint of brim's", {.file = path}, "give it as --weights");
  return value.toGenericDict();
}
}  // namespace

void save_checkpoint(const std::vector<std::string>& paths, const Checkpoint& checkpoint) {
  const std::vector<char> bytes = encode(checkpoint);
  for (const std::string& path : paths) write_file_atomically(path, bytes.data(), bytes.size());
}

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  save_checkpoint(std::vector<std::string>{path}, checkpoint);
}

Checkpoint load_checkpoint(const std::string& path) {
  const c10::impl::GenericDict file = decode(path, read_all(path));
  if (!file.contains("brim") || !file.at("brim").isString())
    throw Error("not a checkpoint of brim's: it has no entry 'brim'", {.file = path},
                "a state_dict is loaded with --weights, not --resume");
  Checkpoint checkpoint;
  try {
    const json about = json::parse(file.at("brim").toStringRef());
    const int format = about.at("format");
    if (format != kFormat)
      throw Error("checkpoint format " + std::to_string(format) + ", this program reads " +
                      std::to_string(kFormat),
                  {.file = path}, "resume it with the version of brim that wrote it");
    checkpoint.info = from_json(about);
    for (const Section& section : kSections) {
      for (const auto& item : file.at(section.name).toGenericDict())
        (checkpoint.*section.map).emplace(item.key().toStringRef(), item.value().toTensor());
    }
    if (checksum(checkpoint) != about.at("checksum").get<std::uint64_t>())
      damaged(path, "the checksum does not match");
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    damaged(path, text.substr(0, text.find('\n')));
  }
  return checkpoint;
}

void strip_checkpoint(const std::string& path, const std::string& output) {
  Checkpoint full = load_checkpoint(path);
  Checkpoint model;
  model.info = full.info;
  model.model = full.ema.empty() ? std::move(full.model) : std::move(full.ema);
  save_checkpoint(output, model);
}

TensorMap state_of(torch::nn::Module& network) {
  TensorMap state;
  for (const auto& item : network.named_parameters()) state.emplace(item.key(), item.value());
  for (const auto& item : network.named_buffers()) state.emplace(item.key(), item.value());
  return state;
}

void load_state(torch::nn::Module& network, const TensorMap& state) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : state_of(network)) {
    const auto found = state.find(name);
    if (found == state.end()) throw Error("the checkpoint lacks '" + name + "'");
    if (found->second.sizes() != tensor.sizes())
      throw Error("'" + name + "' has another shape in the checkpoint", {},
                  "was it made with another model or class count?");
    torch::Tensor target = tensor;
    target.copy_(found->second);
  }
}

}  // namespace brim
