// How long opening a set of 40,000 labelled photographs takes: without an index (sizes and labels
// of every file are read) and with the one that the first opening left. Files in the page cache.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/random.h"

namespace brim {
namespace {

namespace fs = std::filesystem;

constexpr int kImages = 40'000;
constexpr int kPhotos = 64;  ///< different ones; the others are hard links to them
constexpr int kBoxes = 7;    ///< per image, as COCO has

std::string photo(int number) {
  cv::Mat pixels(480, 640, CV_8UC3);
  cv::RNG random(static_cast<std::uint64_t>(number) + 1);
  random.fill(pixels, cv::RNG::UNIFORM, 0, 256);
  cv::GaussianBlur(pixels, pixels, {9, 9}, 2);
  std::vector<unsigned char> bytes;
  cv::imencode(".jpg", pixels, bytes);
  return {bytes.begin(), bytes.end()};
}

std::string labels(int number) {
  Generator random(static_cast<std::uint64_t>(number), Purpose::User);
  std::string text;
  for (int i = 0; i < kBoxes; ++i) {
    char row[96];
    std::snprintf(row, sizeof row, "%d %.6f %.6f %.6f %.6f\n", static_cast<int>(random.below(80)),
                  random.uniform(0.2, 0.8), random.uniform(0.2, 0.8), random.uniform(0.01, 0.4),
                  random.uniform(0.01, 0.4));
    text += row;
  }
  return text;
}

/// A set in the folder of temporary files, removed at the end.
class Files {
 public:
  Files() : folder_(fs::temp_directory_path() / "brim-bench-index-XXXXXX") {
    std::string name = folder_.string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    folder_ = name;
    fs::create_directories(folder_ / "images");
    fs::create_directories(folder_ / "labels");
    std::ofstream yaml(folder_ / "data.yaml");
    yaml << "path: .\ntrain: images\nval: images\nnc: 80\nnames: [";
    for (int i = 0; i < 80; ++i) yaml << (i > 0 ? ", c" : "c") << i;
    yaml << "]\n";
    for (int i = 0; i < kImages; ++i) {
      char stem[32];
      std::snprintf(stem, sizeof stem, "%012d", i);
      const fs::path image = folder_ / "images" / (std::string(stem) + ".jpg");
      if (i < kPhotos) {
        std::ofstream(image, std::ios::binary) << photo(i);
        photos_.push_back(image);
      } else {
        fs::create_hard_link(photos_[static_cast<std::size_t>(i % kPhotos)], image);
      }
      std::ofstream(folder_ / "labels" / (std::string(stem) + ".txt")) << labels(i);
    }
  }
  ~Files() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  std::string data_yaml() const { return folder_ / "data.yaml"; }
  std::string index_directory() const { return folder_ / "index"; }

 private:
  fs::path folder_;
  std::vector<fs::path> photos_{};
};

const Files& files() {
  static const Files made;
  return made;
}

void open_all(benchmark::State& state) {
  const DatasetOptions options{.index_directory = files().index_directory()};
  const auto dataset = open_yolo(files().data_yaml(), options);
  RecordScratch scratch;
  if (dataset->size() != kImages || dataset->record(kImages - 1, scratch).width != 640) {
    state.SkipWithError("the set is not what was written");
  }
}

void first_opening(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    fs::remove_all(files().index_directory());
    state.ResumeTiming();
    open_all(state);
  }
}
BENCHMARK(first_opening)->Iterations(3)->Unit(benchmark::kMillisecond)->UseRealTime();

void later_opening(benchmark::State& state) {
  open_all(state);
  for (auto _ : state) open_all(state);
}
BENCHMARK(later_opening)->Iterations(5)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace brim

BENCHMARK_MAIN();
