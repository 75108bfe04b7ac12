// Cost of decoding, each case next to TurboJPEG alone (tjDecompress2 into a reused buffer) on the
// same bytes. BRIM_TEST_DATA names the folder with data/.
//
//   bench_decode --benchmark_min_time=2 --benchmark_enable_random_interleaving=true
//       --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
#include <benchmark/benchmark.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "brim/dataloader/decode.h"
#include "brim/dataloader/random.h"

namespace {

using Files = std::vector<std::string>;
using Fit = brim::DecodeRequest::Fit;

Files load(const std::string& folder, std::size_t most) {
  const char* const root = std::getenv("BRIM_TEST_DATA");
  const std::filesystem::path path =
      std::filesystem::path(root != nullptr ? root : "../shared") / "data" / folder;
  Files files;
  if (!std::filesystem::exists(path)) return files;
  std::vector<std::filesystem::path> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.path().extension() == ".jpg") names.push_back(entry.path());
  }
  std::sort(names.begin(), names.end());
  for (std::size_t i = 0; i < names.size() && files.size() < most; ++i) {
    std::ifstream in(names[i], std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return files;
}

std::span<const std::byte> bytes_of(const std::string& file) {
  return std::as_bytes(std::span(file));
}

/// The region torchvision's random-resized-crop would take: 8% to 100% of the area.
brim::RegionF random_crop(std::uint64_t key) {
  brim::Generator random(key, brim::Purpose::Crop);
  const double area = random.uniform(0.08, 1.0);
  const double aspect = std::exp(random.uniform(std::log(0.75), std::log(4.0 / 3.0)));
  const double width = std::min(1.0, std::sqrt(area * aspect));
  const double height = std::min(1.0, std::sqrt(area / aspect));
  return {random.uniform(0, 1 - width), random.uniform(0, 1 - height), width, height};
}

void turbojpeg(benchmark::State& state, const Files& files) {
  const tjhandle handle = tjInitDecompress();
  std::vector<unsigned char> pixels;
  std::size_t i = 0;
  for (auto _ : state) {
    const std::string& file = files[i++ % files.size()];
    const auto* const data = reinterpret_cast<const unsigned char*>(file.data());
    int width = 0, height = 0, sampling = 0, colours = 0;
    tjDecompressHeader3(handle, data, file.size(), &width, &height, &sampling, &colours);
    const std::size_t need = std::size_t{3} * width * height;
    if (pixels.size() < need) pixels.resize(need);
    tjDecompress2(handle, data, file.size(), pixels.data(), width, 0, height, TJPF_RGB, 0);
    benchmark::DoNotOptimize(pixels.data());
  }
  tjDestroy(handle);
  state.SetItemsProcessed(state.iterations());
}

enum class Part { Whole, Crop };

void brim_decode(benchmark::State& state, const Files& files, brim::DecodeRequest request,
                 Part part, brim::Truncated truncated = brim::Truncated::Reject) {
  brim::Decoder decoder({.truncated = truncated});
  brim::Image image;
  std::uint64_t i = 0;
  for (auto _ : state) {
    std::optional<brim::RegionF> region;
    if (part == Part::Crop) region = random_crop(i);
    decoder.decode(bytes_of(files[i++ % files.size()]), request, region, image);
    benchmark::DoNotOptimize(image.view().data);
  }
  state.SetItemsProcessed(state.iterations());
}

template <class... Args>
void add(const std::string& name, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), args...)
      ->Threads(2)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const Files bccd = load("detect_bccd", 200), tomato = load("detect_tomato12mp_mini", 8),
              grocery = load("classify_grocery12", 200);
  if (bccd.empty() || tomato.empty() || grocery.empty()) {
    std::fprintf(stderr, "no test data: set BRIM_TEST_DATA to the folder that holds data/\n");
    return 2;
  }
  const auto strict = brim::Truncated::Reject, loose = brim::Truncated::Accept;
  add("bccd_640x480/turbojpeg", turbojpeg, bccd);
  add("bccd_640x480/full", brim_decode, bccd, brim::DecodeRequest{}, Part::Whole, strict);
  add("bccd_640x480/to_320", brim_decode, bccd, brim::DecodeRequest{Fit::LongestSide, 320},
      Part::Whole, strict);
  add("bccd_640x480/to_500", brim_decode, bccd, brim::DecodeRequest{Fit::LongestSide, 500},
      Part::Whole, strict);
  add("bccd_640x480/crop", brim_decode, bccd, brim::DecodeRequest{}, Part::Crop, strict);
  add("bccd_640x480/crop_unchecked", brim_decode, bccd, brim::DecodeRequest{}, Part::Crop, loose);
  add("grocery_348x348/turbojpeg", turbojpeg, grocery);
  add("grocery_348x348/full", brim_decode, grocery, brim::DecodeRequest{}, Part::Whole, strict);
  add("grocery_348x348/crop", brim_decode, grocery, brim::DecodeRequest{}, Part::Crop, strict);
  add("grocery_348x348/crop_unchecked", brim_decode, grocery, brim::DecodeRequest{}, Part::Crop,
      loose);
  add("tomato_12mp/turbojpeg", turbojpeg, tomato);
  add("tomato_12mp/full", brim_decode, tomato, brim::DecodeRequest{}, Part::Whole, strict);
  add("tomato_12mp/to_640", brim_decode, tomato, brim::DecodeRequest{Fit::LongestSide, 640},
      Part::Whole, strict);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
