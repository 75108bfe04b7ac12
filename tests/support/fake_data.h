#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/transform.h"

namespace brim::test {

/// Images in memory: sample i is a grey picture whose bytes follow from i alone, or whatever
/// `encoded` gives (image files in memory).
class MemoryDataset final : public Dataset {
 public:
  struct Settings {
    std::int64_t size = 100;
    int width = 8, height = 6;
    Task task = Task::Detect;
    int boxes = 2;                 ///< per sample
    std::set<std::int64_t> bad{};  ///< samples whose bytes end early
    std::string name = "memory";   ///< part of every path, so of every cache key
  };
  explicit MemoryDataset(Settings settings);
  /// Image files in memory in place of grey pixels.
  MemoryDataset(Settings settings, std::vector<std::vector<std::byte>> encoded);

  std::int64_t size() const override { return settings_.size; }
  Record record(std::int64_t index, RecordScratch& scratch) const override;
  Task task() const override { return settings_.task; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 1; }
  std::string path(std::int64_t index) const override;

 private:
  Settings settings_;
  bool files_ = false;
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::vector<Box>> boxes_;
  std::vector<std::string> names_{"a", "b", "c"};
};

/// Mixes the pixels of its sources, so that any wrong source, order, recipe or label shows in the
/// digest. `partners` of them are drawn for every sample but a few.
class MixTransform final : public Transform {
 public:
  struct Settings {
    int width = 7, height = 5;
    int partners = 3;
    double partner_probability = 0.9;
    std::function<void(const Recipe&)> on_apply{};  ///< e.g. to throw or to be slow
  };
  explicit MixTransform(Settings settings) : settings_(std::move(settings)) {}

  int width() const override { return settings_.width; }
  int height() const override { return settings_.height; }
  void choose(Recipe& recipe, PartnerDraw& partners) const override;
  DecodeRequest decode_request() const override { return {DecodeRequest::Fit::LongestSide, 64}; }
  void apply(const Recipe& recipe, std::span<const Source> sources, TransformScratch* scratch,
             SampleOut& out) const override;
  std::string describe() const override { return "mix"; }

 private:
  Settings settings_;
};

}  // namespace brim::test
