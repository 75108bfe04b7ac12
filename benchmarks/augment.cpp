// Cost of each augmentation stage beside TurboJPEG's decode of the same pictures, in one run.
//   BRIM_TEST_DATA=/path/to/shared bench_augment [--benchmark_filter=...]
// Without test data the pictures are made up. `decodes` is the time as a share of one decode.
#include <benchmark/benchmark.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "brim/dataloader/letterbox.h"
#include "dataloader/src/augment_composition.h"
#include "dataloader/src/colour.h"

namespace {

using namespace brim;
namespace fs = std::filesystem;

struct Photo {
  std::vector<unsigned char> jpeg;
  Image pixels;
};

void decode(tjhandle handle, Photo& photo) {
  int width = 0, height = 0, sampling = 0, space = 0;
  tjDecompressHeader3(handle, photo.jpeg.data(), photo.jpeg.size(), &width, &height, &sampling,
                      &space);
  photo.pixels.resize(width, height);
  tjDecompress2(handle, photo.jpeg.data(), photo.jpeg.size(), photo.pixels.mutable_view().data,
                width, 0, height, TJPF_RGB, 0);
}

/// A photo-like picture: waves, edges and grain, JPEG quality 90.
Photo make_photo(tjhandle encoder, std::uint64_t key) {
  Image image;
  image.resize(640, 480);
  Generator g(key, Purpose::User);
  for (int y = 0; y < 480; ++y) {
    for (int x = 0; x < 640 * 3; ++x) {
      image.mutable_view().row(y)[x] = static_cast<std::uint8_t>(
          120 + 60 * std::sin(x * 0.01 + y * 0.02) + (((x / 90) ^ (y / 40)) & 1) * 30 +
          static_cast<double>(g.below(24)));
    }
  }
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  tjCompress2(encoder, image.view().data, 640, 0, 480, TJPF_RGB, &bytes, &size, TJSAMP_420, 90, 0);
  Photo photo;
  photo.jpeg.assign(bytes, bytes + size);
  tjFree(bytes);
  return photo;
}

std::vector<Photo>& photos() {
  static std::vector<Photo> all = [] {
    std::vector<Photo> found;
    const char* root = std::getenv("BRIM_TEST_DATA");
    const fs::path folder =
        fs::path(root != nullptr ? root : "") / "data/detect_coco_ccby_mini/images";
    if (fs::exists(folder)) {
      for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (entry.path().extension() != ".jpg") continue;
        std::ifstream in(entry.path(), std::ios::binary);
        found.push_back({{std::istreambuf_iterator<char>(in), {}}, {}});
      }
    }
    const tjhandle encoder = tjInitCompress(), decoder = tjInitDecompress();
    for (std::uint64_t key = 0; found.size() < 8; ++key) {
      found.push_back(make_photo(encoder, key));
    }
    for (Photo& photo : found) decode(decoder, photo);
    tjDestroy(encoder);
    tjDestroy(decoder);
    return found;
  }();
  return all;
}

/// CPU seconds of this thread: what other programs take does not count.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// Seconds of one decode, the mean over all photos, measured between the rounds of a benchmark so
/// that both see the same machine.
class DecodeClock {
 public:
  ~DecodeClock() { tjDestroy(handle_); }
  void tick() {
    Photo& photo = photos()[next_++ % photos().size()];
    const double begin = thread_seconds();
    decode(handle_, photo);
    seconds_ += thread_seconds() - begin;
  }
  double mean() const { return seconds_ / static_cast<double>(std::max<std::size_t>(1, next_)); }

 private:
  tjhandle handle_ = tjInitDecompress();
  std::size_t next_ = 0;
  double seconds_ = 0;
};

/// Runs `work(i)` as the benchmark, a decode after each, and reports ms and share of a decode.
template <typename Work>
void beside_decode(benchmark::State& state, Work work) {
  DecodeClock clock;
  double seconds = 0;
  std::uint64_t i = 0;
  for (auto _ : state) {
    const double begin = thread_seconds();
    work(i++);
    const double took = thread_seconds() - begin;
    state.SetIterationTime(took);
    seconds += took;
    clock.tick();
  }
  const double mean = seconds / static_cast<double>(state.iterations());
  state.counters["ms"] = mean * 1e3;
  state.counters["decode_ms"] = clock.mean() * 1e3;
  state.counters["decodes"] = mean / clock.mean();
}

std::vector<Source> sources_from(std::uint64_t first, int count) {
  std::vector<Source> sources(static_cast<std::size_t>(count));
  for (std::size_t k = 0; k < sources.size(); ++k) {
    sources[k].pixels = photos()[(first * 4 + k) % photos().size()].pixels.view();
  }
  return sources;
}

struct Draw : PartnerDraw {
  std::int64_t draw() override { return 0; }
};

void run_transform(benchmark::State& state, const std::shared_ptr<const Transform>& transform) {
  const auto scratch = transform->make_scratch();
  Image out;
  out.resize(transform->width(), transform->height());
  Draw draw;
  beside_decode(state, [&](std::uint64_t i) {
    Recipe recipe{.key = mix64(i)};
    transform->choose(recipe, draw);
    const std::vector<Source> sources = sources_from(i, recipe.source_count);
    SampleOut sample;
    sample.pixels = out.mutable_view();
    transform->apply(recipe, sources, scratch.get(), sample);
    benchmark::DoNotOptimize(out.view().data);
  });
}

void mosaic640(benchmark::State& state) {
  run_transform(state, make_detection_transform(640));
}
void mosaic320(benchmark::State& state) {
  run_transform(state, make_detection_transform(320));
}
void mosaic640_turned(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.degrees = 10, .shear = 2}));
}
void mosaic640_perspective(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.degrees = 10, .perspective = 0.0005}));
}
void mosaic640_nine(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.mosaic9 = 1}));
}
void mosaic640_mixup(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.mixup = 1}));
}
void mosaic640_without_colour(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.hsv_h = 0, .hsv_s = 0, .hsv_v = 0}));
}
void single640(benchmark::State& state) {
  run_transform(state, make_detection_transform(640, {.mosaic = 0}));
}
void letterbox640(benchmark::State& state) {
  run_transform(state, make_letterbox_transform(640, 640));
}
void letterbox960_enlarging(benchmark::State& state) {
  run_transform(state, make_letterbox_transform(960, 960));
}
void classify224(benchmark::State& state) {
  run_transform(state, make_classification_transform(224));
}
void classify224_without_colour(benchmark::State& state) {
  run_transform(state, make_classification_transform(224, {.hsv_h = 0, .hsv_s = 0, .hsv_v = 0}));
}
void center_crop224(benchmark::State& state) {
  run_transform(state, make_center_crop_transform(224));
}

void colour_only640(benchmark::State& state) {
  detail::PixelRow row;
  row.resize(640);
  for (int c = 0; c < 3; ++c) {
    for (int x = 0; x < 640; ++x) {
      row.plane(c)[x] = static_cast<std::uint8_t>(60 + x / 8 + 20 * c + x * 7 % 13);
    }
  }
  std::vector<std::uint8_t> out(640 * 3);
  const detail::ColourGains gains{1.01f, 1.3f, 0.8f};
  beside_decode(state, [&](std::uint64_t) {
    for (int y = 0; y < 640; ++y) {
      detail::write_coloured(gains, row, 0, 640, out.data(), detail::best_isa());
    }
    benchmark::DoNotOptimize(out.data());
  });
}

/// The usual way: a canvas of twice the size, OpenCV's warp, its HSV conversion and a flip.
void opencv_two_steps640(benchmark::State& state) {
  cv::setNumThreads(1);
  cv::Mat canvas(1280, 1280, CV_8UC3), sample, hsv, table(1, 256, CV_8UC3, cv::Scalar::all(99));
  const cv::Mat map = (cv::Mat_<double>(2, 3) << 1.1, 0, -384, 0, 1.1, -384);
  beside_decode(state, [&](std::uint64_t i) {
    canvas.setTo(cv::Scalar::all(114));
    const auto sources = sources_from(i, 4);
    for (int k = 0; k < 4; ++k) {
      const ImageView& v = sources[static_cast<std::size_t>(k)].pixels;
      const cv::Mat image(v.height, v.width, CV_8UC3, const_cast<std::uint8_t*>(v.data));
      image.copyTo(canvas(cv::Rect(k % 2 == 1 ? 640 : 640 - v.width, k >= 2 ? 640 : 640 - v.height,
                                   v.width, v.height)));
    }
    cv::warpAffine(canvas, sample, map, {640, 640}, cv::INTER_LINEAR, cv::BORDER_CONSTANT,
                   cv::Scalar::all(114));
    cv::cvtColor(sample, hsv, cv::COLOR_RGB2HSV);
    cv::LUT(hsv, table, hsv);
    cv::cvtColor(hsv, sample, cv::COLOR_HSV2RGB);
    cv::flip(sample, hsv, 1);
    benchmark::DoNotOptimize(hsv.data);
  });
}

#define BRIM_CASE(name) BENCHMARK(name)->UseManualTime()->Unit(benchmark::kMillisecond)
BRIM_CASE(mosaic640);
BRIM_CASE(mosaic640_without_colour);
BRIM_CASE(mosaic640_turned);
BRIM_CASE(mosaic640_perspective);
BRIM_CASE(mosaic640_nine);
BRIM_CASE(mosaic640_mixup);
BRIM_CASE(single640);
BRIM_CASE(mosaic320);
BRIM_CASE(letterbox640);
BRIM_CASE(letterbox960_enlarging);
BRIM_CASE(classify224);
BRIM_CASE(classify224_without_colour);
BRIM_CASE(center_crop224);
BRIM_CASE(colour_only640);
BRIM_CASE(opencv_two_steps640);

}  // namespace

BENCHMARK_MAIN();
