#include "brim/train/network.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>

#include "brim/cache/error.h"
#include "brim/train/recompute.h"
#include "model_yaml.h"
#include "yolo_network.h"

namespace brim {
namespace {

namespace fs = std::filesystem;

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t change = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j + 1] + 1, row[j] + 1, change});
    }
  }
  return row.back();
}

std::string nearest_network(const std::string& name) {
  const auto names = known_networks();
  return *std::min_element(names.begin(), names.end(), [&](const auto& a, const auto& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
}

bool names_a_file(const std::string& model) {
  const std::string extension = fs::path(model).extension().string();
  return extension == ".yaml" || extension == ".yml" || model.find('/') != std::string::npos;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || fs::is_directory(path))
    throw Error("cannot read the model description", {.file = path, .line = 0, .key = {}},
                "give a built-in name such as yolov5n, or the path of a model YAML");
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

torch::Tensor Network::run_block(const torch::nn::Module& block, const BlockForward& forward,
                                 const torch::Tensor& x) const {
  if (activations_ == Activations::Keep || !is_training()) return forward(x);
  return recompute_in_backward(block, forward, x);
}

std::vector<std::string> known_networks() {
  std::vector<std::string> names{"resnet18", "resnet34", "resnet50", "resnet101"};
  for (const auto& model : detail::model_texts()) names.emplace_back(model.name);
  return names;
}

std::shared_ptr<Network> make_network(const NetworkOptions& options) {
  const std::string& model = options.model;
  if (options.classes < 1)
    throw Error("a network needs at least one class, asked for " + std::to_string(options.classes),
                {.file = {}, .line = 0, .key = "classes"});
  if (auto resnet = detail::make_resnet(model, options.classes)) return resnet;
  for (const auto& known : detail::model_texts())
    if (model == known.name) {
      const auto spec = detail::parse_model_yaml(std::string(known.text), model + ".yaml");
      return detail::make_yolo(spec, model, options.classes);
    }
  if (names_a_file(model)) {
    const auto spec = detail::parse_model_yaml(read_text(model), model);
    return detail::make_yolo(spec, fs::path(model).stem().string(), options.classes);
  }
  std::string all;
  for (const std::string& name : known_networks()) all += (all.empty() ? "" : ", ") + name;
  throw Error("unknown model '" + model + "', nearest is '" + nearest_network(model) + "'",
              {.file = {}, .line = 0, .key = "model"},
              "known: " + all + ", or the path of a model YAML");
}

}  // namespace brim
