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
#include "weights_archive.h"
#include "weights_pickle.h"

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

detail::StateSections sections_of(const Checkpoint& checkpoint) {
  detail::StateSections file;
  for (const Section& section : kSections) {
    const TensorMap& tensors = checkpoint.*section.map;
    file.emplace_back(section.name, StateDict(tensors.begin(), tensors.end()));
  }
  json about = to_json(checkpoint.info);
  about["format"] = kFormat;
  about["checksum"] = checksum(checkpoint);
  file.emplace_back("brim", about.dump(-1, ' ', false, json::error_handler_t::replace));
  return file;
}

[[noreturn]] void damaged(const std::string& path, const std::string& how) {
  throw Error("the checkpoint is damaged or cut short (" + how + ")", {.file = path},
              "use the other of last.pt and best.pt, or an earlier copy");
}

std::vector<char> read_all(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw Error("is a folder, expected a checkpoint", {.file = path},
                "name its last.pt or best.pt");
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in)
    throw Error(std::string("cannot open checkpoint: ") + std::strerror(errno), {.file = path},
                "give the path of a file that is there: nothing is downloaded");
  std::vector<char> bytes(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw Error(std::string("cannot read checkpoint: ") + std::strerror(errno), {.file = path});
  return bytes;
}

Checkpoint decode(const std::string& path, detail::WeightsArchive& archive,
                  const std::string& text) {
  const json about = json::parse(text);
  const int format = about.at("format");
  if (format != kFormat)
    throw Error("checkpoint format " + std::to_string(format) + ", this program reads " +
                    std::to_string(kFormat),
                {.file = path}, "resume it with the version of brim that wrote it");
  Checkpoint checkpoint;
  checkpoint.info = from_json(about);
  for (const Section& section : kSections) {
    const detail::PickleNode* dict = archive.find(archive.root(), section.name);
    if (dict == nullptr) throw detail::ArchiveFault(std::string("it lacks ") + section.name);
    for (const auto& [name, value] : archive.entries(*dict))
      (checkpoint.*section.map).emplace(name, archive.tensor(*value));
  }
  if (checksum(checkpoint) != about.at("checksum").get<std::uint64_t>())
    throw detail::ArchiveFault("the checksum does not match");
  return checkpoint;
}

/// Sets `why_not` and gives nothing where the file is something else.
std::optional<Checkpoint> read(const std::string& path, std::string& why_not) {
  std::vector<char> bytes = read_all(path);
  if (bytes.size() < 4) damaged(path, "it is empty");
  if (!detail::WeightsArchive::begins({bytes.data(), bytes.size()})) {
    why_not = "it is no PyTorch file";
    return std::nullopt;
  }
  try {
    detail::WeightsArchive archive(std::move(bytes), path);
    const detail::PickleNode* about = archive.find(archive.root(), "brim");
    if (about == nullptr || about->kind != detail::PickleNode::Kind::Text) {
      why_not = "it has no entry 'brim'";
      return std::nullopt;
    }
    return decode(path, archive, std::string(about->text));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    damaged(path, error.what());
  }
}
}  // namespace

void save_checkpoint(const std::vector<std::string>& paths, const Checkpoint& checkpoint) {
  const detail::StateSections sections = sections_of(checkpoint);
  for (const std::string& path : paths)
    write_file_atomically(path,
                          [&](const FileSink& sink) { detail::pickle_sections(sections, sink); });
}

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  save_checkpoint(std::vector<std::string>{path}, checkpoint);
}

Checkpoint load_checkpoint(const std::string& path) {
  std::string why_not;
  if (auto checkpoint = read(path, why_not)) return std::move(*checkpoint);
  throw Error("not a checkpoint of brim's: " + why_not, {.file = path},
              "a state_dict is loaded with --weights, not --resume");
}

std::optional<Checkpoint> find_checkpoint(const std::string& path) {
  std::string why_not;
  return read(path, why_not);
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
