#include "compose_scenes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <exception>
#include <mutex>
#include <opencv2/imgcodecs.hpp>
#include <thread>
#include <vector>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "compose_files.h"
#include "compose_render.h"

namespace brim {
namespace {
using namespace detail;

constexpr std::int64_t kPerFolder = 10'000;

void check(const ComposeOptions& options) {
  auto wrong = [](const char* key, const std::string& message) {
    throw Error(message, {.key = key});
  };
  if (options.output.empty()) wrong("out", "name the folder to write to");
  if (options.images < 1 || options.images > 100'000'000) wrong("images", "must be 1 to 100000000");
  if (options.size < 32 || options.size > 4096) wrong("size", "must be 32 to 4096 pixels");
  if (!(options.val_fraction >= 0 && options.val_fraction <= 0.9)) {
    wrong("val_fraction", "must be 0 to 0.9");
  }
  if (options.min_objects < 1 || options.max_objects < options.min_objects ||
      options.max_objects > 100) {
    wrong("objects", "must be 1 to 100, least first");
  }
}

/// True for the pictures of the validation split: spread evenly, whatever the number of pictures.
bool is_val(std::int64_t i, double fraction) {
  return std::floor(static_cast<double>(i + 1) * fraction) >
         std::floor(static_cast<double>(i) * fraction);
}

/// A class name as the name of a folder.
std::string folder_name(std::string name) {
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

SceneSource open_source(const ComposeOptions& options, Split split) {
  SceneSource source;
  source.dataset = open_idx(options.source, {.split = split});
  const std::vector<std::string>& names = source.dataset->class_names();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool wanted = options.classes.empty() ||
                        std::count(options.classes.begin(), options.classes.end(), names[i]) > 0;
    if (wanted) source.classes.push_back(static_cast<std::int32_t>(i));
  }
  for (const std::string& name : options.classes) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string known;
    for (const std::string& each : names) known += (known.empty() ? "" : ", ") + each;
    throw Error("no class '" + name + "' in " + options.source, {.key = "classes"},
                "there are " + known);
  }
  RecordScratch scratch;
  for (std::int64_t i = 0; i < source.dataset->size(); ++i) {
    const std::int32_t class_id = source.dataset->record(i, scratch).class_id;
    if (std::binary_search(source.classes.begin(), source.classes.end(), class_id)) {
      source.indices.push_back(i);
    }
  }
  if (source.indices.empty()) throw Error("no images of these classes", {.file = options.source});
  return source;
}

class Composer {
 public:
  explicit Composer(const ComposeOptions& options)
      : options_(options),
        train_(open_source(options, Split::Train)),
        val_(open_source(options, Split::Val)),
        folder_(options.output, describe(), options.images) {
    for (const std::int32_t id : train_.classes) {
      names_.push_back(train_.dataset->class_names()[static_cast<std::size_t>(id)]);
    }
    plan_.size = options.size;
    plan_.min_objects = options.min_objects;
    plan_.max_objects = options.max_objects;
    if (options.task == Task::Classify) {
      plan_.min_objects = plan_.max_objects = 1;
      plan_.min_side = 0.6;
      plan_.max_side = 0.9;
    }
  }

  /// Makes picture `i` unless it is complete. Returns true if it was made.
  bool make(std::int64_t i) const {
    const bool val = is_val(i, options_.val_fraction);
    const std::uint64_t key = mix64(options_.seed, static_cast<std::uint64_t>(i));
    const SceneSource& source = val ? val_ : train_;
    ScenePlan plan = plan_;
    std::string file = picture(i, val);
    if (options_.task == Task::Classify) {
      // Chosen before anything is drawn, for the class says where the file lies.
      plan.only = source.indices[Generator(key, Purpose::Order).below(source.indices.size())];
      RecordScratch scratch;
      const std::int32_t class_id = source.dataset->record(plan.only, scratch).class_id;
      file = class_picture(i, val, names_[static_cast<std::size_t>(source.class_of(class_id))]);
    }
    if (is_complete_jpeg(file)) return false;
    const Scene scene = compose_scene(source, plan, key);
    // The label comes first: a picture that is there has one.
    if (options_.task == Task::Detect) write_whole_file(labels(i, val), label_text(scene));
    write_whole_file(file, compressed(scene, key, file));
    return true;
  }

  /// What completes the set; returns what names it.
  std::string finish() {
    std::string data = options_.output;
    if (options_.task == Task::Detect) {
      data = options_.output + "/data.yaml";
      std::string text = "path: .\ntrain: images/train\n";
      text +=
          "val: images/" + std::string(options_.val_fraction > 0 ? "val" : "train") + "\nnames:\n";
      for (std::size_t i = 0; i < names_.size(); ++i) {
        text += "  " + std::to_string(i) + ": \"" + names_[i] + "\"\n";
      }
      write_whole_file(data, text);
    }
    folder_.mark_finished();
    return data;
  }

 private:
  /// All that decides what a picture looks like.
  std::string describe() const {
    char text[256];
    std::snprintf(text, sizeof text,
                  "composer: 1\ntask: %s\nsize: %d\nseed: %llu\nval_fraction: %.17g\n"
                  "objects: %d to %d\nsource: %016llx\n",
                  options_.task == Task::Detect ? "detect" : "classify", options_.size,
                  static_cast<unsigned long long>(options_.seed), options_.val_fraction,
                  options_.min_objects, options_.max_objects,
                  static_cast<unsigned long long>(
                      mix64(train_.dataset->fingerprint(), val_.dataset->fingerprint())));
    std::string settings = text;
    for (const std::string& name : options_.classes) settings += "class: " + name + "\n";
    return settings;
  }

  std::string place(const char* kind, std::int64_t i, bool val, const char* extension) const {
    char text[64];
    std::snprintf(text, sizeof text, "/%s/%s/%04lld/%08lld.%s", kind, val ? "val" : "train",
                  static_cast<long long>(i / kPerFolder), static_cast<long long>(i), extension);
    return options_.output + text;
  }
  std::string picture(std::int64_t i, bool val) const { return place("images", i, val, "jpg"); }
  std::string labels(std::int64_t i, bool val) const { return place("labels", i, val, "txt"); }
  std::string class_picture(std::int64_t i, bool val, const std::string& name) const {
    char text[32];
    std::snprintf(text, sizeof text, "/%08lld.jpg", static_cast<long long>(i));
    return options_.output + (val ? "/val/" : "/train/") + folder_name(name) + text;
  }

  static std::string compressed(const Scene& scene, std::uint64_t key, const std::string& file) {
    std::vector<std::uint8_t> bytes;
    const int quality = 72 + static_cast<int>(Generator(key, Purpose::User).below(22));
    if (!cv::imencode(".jpg", scene.pixels, bytes, {cv::IMWRITE_JPEG_QUALITY, quality})) {
      throw Error("the picture could not be compressed", {.file = file});
    }
    return {bytes.begin(), bytes.end()};
  }

  static std::string label_text(const Scene& scene) {
    std::string text;
    char row[96];
    for (const Box& box : scene.boxes) {
      std::snprintf(row, sizeof row, "%d %.6f %.6f %.6f %.6f\n", box.class_id,
                    static_cast<double>(box.cx), static_cast<double>(box.cy),
                    static_cast<double>(box.width), static_cast<double>(box.height));
      text += row;
    }
    return text;
  }

  const ComposeOptions& options_;
  SceneSource train_, val_;
  std::vector<std::string> names_{};  ///< of the composed set
  ComposeFolder folder_;
  ScenePlan plan_{};
};

/// Pictures [0, count) by number, made by several threads.
class Work {
 public:
  Work(const Composer& composer, std::int64_t count, const ComposeProgress& progress)
      : composer_(composer), count_(count), progress_(progress) {}

  void run(int threads) {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back([this] { loop(); });
    loop();
    helpers.clear();
    if (error_) std::rethrow_exception(error_);
  }
  std::int64_t written() const { return written_; }
  std::int64_t done() const { return done_; }

 private:
  void loop() {
    try {
      while (!stop_) {
        const std::int64_t i = next_++;
        if (i >= count_) return;
        if (composer_.make(i)) ++written_;
        report(++done_);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop_ = true;
    }
  }

  void report(std::int64_t done) {
    if (!progress_ || (done % 16 != 0 && done != count_)) return;
    const std::lock_guard lock(mutex_);
    if (!stop_ && !progress_(done, count_)) stop_ = true;
  }

  const Composer& composer_;
  const std::int64_t count_;
  const ComposeProgress& progress_;
  std::atomic<std::int64_t> next_{0}, done_{0}, written_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

/// OpenCV's own threads would nest inside ours.
class SingleThreadedOpenCv {
 public:
  SingleThreadedOpenCv() { cv::setNumThreads(1); }
  ~SingleThreadedOpenCv() { cv::setNumThreads(before_); }

 private:
  int before_ = cv::getNumThreads();
};

}  // namespace

ComposeReport compose_scenes(const ComposeOptions& options, const ComposeProgress& progress) {
  check(options);
  const SingleThreadedOpenCv single;
  Composer composer(options);
  Work work(composer, options.images, progress);
  work.run(options.threads > 0 ? options.threads : available_cpus());
  ComposeReport report;
  report.written = work.written();
  report.kept = work.done() - work.written();
  report.val_images = static_cast<std::int64_t>(
      std::floor(static_cast<double>(options.images) * options.val_fraction));
  report.train_images = options.images - report.val_images;
  report.finished = work.done() == options.images;
  if (report.finished) report.data = composer.finish();
  return report;
}

}  // namespace brim
