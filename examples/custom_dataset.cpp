// Somebody else's data and augmentation through brim's loader, without LibTorch: pictures made in
// memory, and a transform that mirrors half of them.
#include <algorithm>
#include <iostream>

#include "brim/dataloader/loader.h"

namespace {

/// Grey squares of 32 x 32 pixels whose brightness is their class.
class Squares : public brim::Dataset {
 public:
  Squares() : pixels_(std::size_t{kCount} * kSide * kSide) {
    for (std::size_t i = 0; i < pixels_.size(); ++i) {
      pixels_[i] = static_cast<std::byte>(20 * (i / (kSide * kSide) % 10));
    }
    for (int i = 0; i < 10; ++i) names_.push_back("brightness" + std::to_string(i));
  }
  std::int64_t size() const override { return kCount; }
  brim::Record record(std::int64_t index, brim::RecordScratch&) const override {
    const auto offset = static_cast<std::size_t>(index) * kSide * kSide;
    brim::Record record;
    record.source = {.path = "squares", .offset = offset, .length = kSide * kSide};
    record.memory = std::span(pixels_).subspan(offset, kSide * kSide);
    record.encoding = brim::Encoding::RawGray;
    record.width = record.height = kSide;
    record.class_id = static_cast<std::int32_t>(index % 10);
    return record;
  }
  brim::Task task() const override { return brim::Task::Classify; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return kCount; }
  std::string path(std::int64_t index) const override { return "square " + std::to_string(index); }

 private:
  static constexpr int kCount = 1000;
  static constexpr int kSide = 32;
  std::vector<std::byte> pixels_;
  std::vector<std::string> names_;
};

/// Copies the source, mirrored with probability one half.
class Mirror : public brim::Transform {
 public:
  int width() const override { return 32; }
  int height() const override { return 32; }
  brim::DecodeRequest decode_request() const override { return {}; }
  void apply(const brim::Recipe& recipe, std::span<const brim::Source> sources,
             brim::TransformScratch*, brim::SampleOut& out) const override {
    const bool flip = brim::Generator(recipe.key, brim::Purpose::User).chance(0.5);
    const brim::ImageView& in = sources[0].pixels;
    for (int y = 0; y < height(); ++y) {
      for (int x = 0; x < width(); ++x) {
        std::copy_n(in.row(y) + 3 * (flip ? width() - 1 - x : x), 3, out.pixels.row(y) + 3 * x);
      }
    }
    out.class_id = sources[0].record.class_id;
  }
  std::string describe() const override { return "mirror:v1"; }
};

}  // namespace

int main() {
  brim::Loader loader(std::make_shared<Squares>(), std::make_shared<Mirror>(),
                      {.batch_size = 50, .workers = 2, .seed = 7});
  loader.start(0);
  std::int64_t samples = 0, class_sum = 0;
  while (auto batch = loader.next()) {
    samples += batch->size();
    for (const std::int64_t id : batch->class_ids()) class_sum += id;
  }
  std::cout << samples << " samples, class sum " << class_sum << "\n";
  return samples == 1000 && class_sum == 4500 ? 0 : 1;
}
