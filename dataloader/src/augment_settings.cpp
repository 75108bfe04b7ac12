#include "augment_settings.h"

#include <charconv>
#include <utility>

#include "brim/cache/error.h"

namespace brim::detail {

void check_setting(double value, double low, double high, const char* key) {
  if (value >= low && value <= high) return;
  throw Error("expected a number from " + setting("", low).substr(1) + " to " +
                  setting("", high).substr(1) + ", found " + setting("", value).substr(1),
              {.key = key}, "it is an augmentation setting; 0 turns most of them off");
}

void check_side(int size, const char* key) {
  if (size >= 1 && size <= 8192) return;
  throw Error("expected a sample size of 1 to 8192 pixels, found " + std::to_string(size),
              {.key = key});
}

void check(const DetectionAugmentation& a) {
  check_setting(a.hsv_h, 0, 1, "hsv_h");
  check_setting(a.hsv_s, 0, 1, "hsv_s");
  check_setting(a.hsv_v, 0, 1, "hsv_v");
  check_setting(a.degrees, 0, 180, "degrees");
  check_setting(a.translate, 0, 1, "translate");
  check_setting(a.scale, 0, 0.99, "scale");
  check_setting(a.shear, 0, 44, "shear");
  check_setting(a.perspective, 0, 0.01, "perspective");
  check_setting(a.flipud, 0, 1, "flipud");
  check_setting(a.fliplr, 0, 1, "fliplr");
  check_setting(a.mosaic, 0, 1, "mosaic");
  check_setting(a.mosaic9, 0, 1, "mosaic9");
  check_setting(a.mixup, 0, 1, "mixup");
  check_setting(a.copy_paste, 0, 1, "copy_paste");
  check_setting(static_cast<double>(a.mosaic_epochs), -1, 1e9, "mosaic_epochs");
}

void check(const ClassificationAugmentation& a) {
  check_setting(a.min_area, 1e-4, 1, "min_area");
  check_setting(a.min_aspect, 0.01, 100, "min_aspect");
  check_setting(a.max_aspect, a.min_aspect, 100, "max_aspect");
  check_setting(a.fliplr, 0, 1, "fliplr");
  check_setting(a.flipud, 0, 1, "flipud");
  check_setting(a.hsv_h, 0, 1, "hsv_h");
  check_setting(a.hsv_s, 0, 1, "hsv_s");
  check_setting(a.hsv_v, 0, 1, "hsv_v");
}

std::string setting(const char* name, double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return std::string(name) + "=" + std::string(text, end);
}

std::string describe(const DetectionAugmentation& a) {
  const std::pair<const char*, double> settings[] = {
      {"hsv_h", a.hsv_h},         {"hsv_s", a.hsv_s},
      {"hsv_v", a.hsv_v},         {"degrees", a.degrees},
      {"translate", a.translate}, {"scale", a.scale},
      {"shear", a.shear},         {"perspective", a.perspective},
      {"flipud", a.flipud},       {"fliplr", a.fliplr},
      {"mosaic", a.mosaic},       {"mosaic9", a.mosaic9},
      {"mixup", a.mixup},         {"copy_paste", a.copy_paste}};
  std::string text;
  for (const auto& [name, value] : settings) text += " " + setting(name, value);
  if (a.mosaic_epochs >= 0) text += " mosaic_epochs=" + std::to_string(a.mosaic_epochs);
  return text;
}

std::string describe(const ClassificationAugmentation& a) {
  const std::pair<const char*, double> settings[] = {
      {"min_area", a.min_area},     {"min_aspect", a.min_aspect},
      {"max_aspect", a.max_aspect}, {"fliplr", a.fliplr},
      {"flipud", a.flipud},         {"hsv_h", a.hsv_h},
      {"hsv_s", a.hsv_s},           {"hsv_v", a.hsv_v}};
  std::string text;
  for (const auto& [name, value] : settings) text += " " + setting(name, value);
  return text;
}

}  // namespace brim::detail
