#include "support/fake_data.h"

#include <utility>

#include "brim/dataloader/random.h"

namespace brim::test {

MemoryDataset::MemoryDataset(Settings settings) : MemoryDataset(std::move(settings), {}) {}

MemoryDataset::MemoryDataset(Settings settings, std::vector<std::vector<std::byte>> encoded)
    : settings_(std::move(settings)), files_(!encoded.empty()), bytes_(std::move(encoded)) {
  bytes_.resize(static_cast<std::size_t>(settings_.size));
  boxes_.resize(bytes_.size());
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    Generator generator(i, Purpose::User);
    if (!files_) {
      bytes_[i].resize(static_cast<std::size_t>(settings_.width * settings_.height));
      for (std::byte& b : bytes_[i]) b = static_cast<std::byte>(generator.next());
    }
    if (settings_.bad.contains(static_cast<std::int64_t>(i))) bytes_[i].resize(1);
    for (int b = 0; b < settings_.boxes; ++b) {
      const auto class_id = static_cast<std::int32_t>(generator.below(3));
      const auto cx = static_cast<float>(generator.uniform(0.2, 0.8));
      boxes_[i].push_back({class_id, cx, 0.5f, 0.1f, 0.2f});
    }
  }
}

std::string MemoryDataset::path(std::int64_t index) const {
  return settings_.name + "/" + std::to_string(index);
}

Record MemoryDataset::record(std::int64_t index, RecordScratch& scratch) const {
  const auto at = static_cast<std::size_t>(index);
  scratch.path = settings_.name;
  scratch.path += '/';
  scratch.path += std::to_string(index);
  Record record;
  record.source.path = scratch.path;
  record.memory = bytes_[at];
  record.source.length = bytes_[at].size();
  record.encoding = files_ ? Encoding::ImageFile : Encoding::RawGray;
  record.width = files_ ? 0 : settings_.width;
  record.height = files_ ? 0 : settings_.height;
  record.class_id = static_cast<std::int32_t>(index % 3);
  record.boxes = boxes_[at];
  return record;
}

void MixTransform::choose(Recipe& recipe, PartnerDraw& partners) const {
  if (!Generator(recipe.key, Purpose::Mosaic).chance(settings_.partner_probability)) return;
  for (int i = 0; i < settings_.partners; ++i) {
    recipe.sources[static_cast<std::size_t>(recipe.source_count++)] = partners.draw();
  }
}

void MixTransform::apply(const Recipe& recipe, std::span<const Source> sources, TransformScratch*,
                         SampleOut& out) const {
  if (settings_.on_apply) settings_.on_apply(recipe);
  Generator generator(recipe.key, Purpose::User);
  const std::uint64_t offset = generator.next();
  for (int y = 0; y < out.pixels.height; ++y) {
    for (int x = 0; x < 3 * out.pixels.width; ++x) {
      std::uint64_t value = offset + static_cast<std::uint64_t>(x + y);
      for (std::size_t s = 0; s < sources.size(); ++s) {
        const ImageView& p = sources[s].pixels;
        value = value * 31 + p.row(y % p.height)[x % (3 * p.width)];
      }
      out.pixels.row(y)[x] = static_cast<std::uint8_t>(value);
    }
  }
  for (const Source& source : sources) {
    for (const Box& box : source.record.boxes) {
      out.targets.push_back({static_cast<float>(box.class_id), box.cx, box.cy, box.width,
                             static_cast<float>(source.info.original_width)});
    }
  }
}

}  // namespace brim::test
