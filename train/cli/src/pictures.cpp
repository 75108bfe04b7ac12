#include "pictures.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace brim::cli {

PictureSource::PictureSource(BatchSource& source, std::string folder,
                             std::vector<std::string> class_names)
    : source_(source), folder_(std::move(folder)), class_names_(std::move(class_names)) {}

void PictureSource::start(std::int64_t epoch, std::int64_t first_batch) {
  source_.start(epoch, first_batch);
}

std::optional<TensorBatch> PictureSource::next() {
  constexpr int kBatches = 3;
  std::optional<TensorBatch> batch = source_.next();
  if (!folder_.empty() && drawn_ < kBatches) trained_on_ = batch;
  return batch;
}

void PictureSource::on_step(const StepEvent& /*event*/) {
  if (!trained_on_) return;
  const TensorBatch batch = to_device(*trained_on_, torch::kCPU);
  trained_on_.reset();
  auto pictures = pictures_of(batch);
  caption_classes(pictures, batch, class_names_);
  draw_grid(pictures, class_names_, folder_ + "/train_batch" + std::to_string(drawn_++) + ".jpg");
}

void caption_classes(std::vector<Picture>& pictures, const TensorBatch& batch,
                     const std::vector<std::string>& class_names) {
  if (!batch.class_ids.defined()) return;
  for (std::size_t i = 0; i < pictures.size(); ++i)
    pictures[i].caption =
        class_name(class_names, batch.class_ids[static_cast<std::int64_t>(i)].item<std::int64_t>());
}

std::string class_name(const std::vector<std::string>& names, std::int64_t class_id) {
  const auto i = static_cast<std::size_t>(class_id);
  return i < names.size() ? names[i] : std::to_string(class_id);
}

namespace {

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) {
    const auto begin = cell.find_first_not_of(" \t\r");
    const auto end = cell.find_last_not_of(" \t\r");
    cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
  }
  return cells;
}

}  // namespace

void draw_results(const std::string& folder) {
  std::ifstream in(folder + "/results.csv");
  std::string line;
  if (!std::getline(in, line)) return;
  ResultsTable table{.columns = cells_of(line)};
  while (std::getline(in, line)) {
    std::vector<double> row;
    for (const std::string& cell : cells_of(line)) {
      row.push_back(cell.empty() ? std::numeric_limits<double>::quiet_NaN() : std::stod(cell));
    }
    row.resize(table.columns.size(), std::numeric_limits<double>::quiet_NaN());
    table.rows.push_back(std::move(row));
  }
  if (!table.rows.empty()) plot_results(table, folder + "/results.png");
}

}  // namespace brim::cli
