#include "brim/dataloader/cache_choice.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

#include "brim/dataloader/decode.h"
#include "brim/dataloader/transform.h"

namespace brim {

std::string cache_recipe(const Transform& transform, const LoaderOptions& options) {
  return options.cache_content == CacheContent::Decoded
             ? decode_recipe(transform.decode_request(), options.decode) + ":pixels1"
             : std::string("encoded:v1");
}

namespace {

/// Share of the free memory and disk that is planned for.
constexpr double kPlanned = 0.9;
/// Bytes per ns at which a value's checksum is computed and its bytes are copied; a view of memory
/// costs neither.
constexpr double kCheckRate = 8.0;
/// What a lookup costs beside its bytes.
constexpr double kLookupNs = 500;
/// A cache is worth its trouble from this share of the cost on.
constexpr double kWorthwhile = 0.02;
/// Modes whose savings differ by less are equal; the simplest of them is taken.
constexpr double kEqual = 0.05;
/// Saving of a mode that cannot be measured, and what any mode that is decided saves more than.
constexpr double kUnknown = -1e300;
constexpr double kAnything = -std::numeric_limits<double>::infinity();

double share_of(double bytes, double room) {
  return bytes > 0 ? std::clamp(room / bytes, 0.0, 1.0) : 1.0;
}

class Chooser {
 public:
  Chooser(const CacheMeasurement& measured, const CacheWish& wish) : m_(measured), wish_(wish) {
    ram_room_ = kPlanned * static_cast<double>(m_.ram_bytes);
    disk_room_ = kPlanned * static_cast<double>(m_.disk_bytes);
    if (wish.byte_limit > 0) {
      const auto limit = static_cast<double>(wish.byte_limit);
      disk_room_ = std::min(disk_room_, limit);
      if (wish.mode != CacheMode::Tiered) ram_room_ = std::min(ram_room_, limit);
    }
  }

  CacheChoice choose() const {
    CacheChoice best = candidate(CacheMode::None, CacheContent::Decoded);
    // Simplest first: what follows must be better by more than kEqual.
    constexpr std::array kModes{CacheMode::Ram, CacheMode::Disk, CacheMode::Tiered,
                                CacheMode::Lmdb};
    for (const CacheMode mode : kModes) {
      if (wish_.mode ? mode != *wish_.mode : mode == CacheMode::Lmdb) continue;
      for (const CacheContent content : {CacheContent::Decoded, CacheContent::Encoded}) {
        if (wish_.content && content != *wish_.content) continue;
        const CacheChoice next = candidate(mode, content);
        const double needed = best.mode == CacheMode::None
                                  ? (wish_.mode ? kAnything : kWorthwhile * next.cost_ns)
                                  : best.saved_ns + kEqual * std::max(best.saved_ns, 0.0);
        if (next.saved_ns > needed) best = next;
      }
    }
    best.why = explain(best);
    return best;
  }

 private:
  CacheChoice candidate(CacheMode mode, CacheContent content) const {
    const bool decoded = content == CacheContent::Decoded;
    const double bytes = decoded ? m_.decoded_bytes : m_.encoded_bytes;
    const double all = bytes * static_cast<double>(m_.images);
    const double hit_saves = m_.load_ns + (decoded ? m_.decode_ns : 0.0) - kLookupNs;
    const double disk_saves = m_.disk_bytes_per_ns > 0
                                  ? hit_saves - bytes / m_.disk_bytes_per_ns - bytes / kCheckRate
                                  : kUnknown;
    CacheChoice choice{.mode = mode, .content = content, .cost_ns = m_.load_ns + m_.decode_ns};
    const double in_ram = share_of(all, ram_room_);
    const double on_disk = share_of(all, disk_room_);
    switch (mode) {
      case CacheMode::None:
        break;
      case CacheMode::Ram:
        choice.fraction = choice.ram_fraction = in_ram;
        choice.saved_ns = in_ram * hit_saves;
        break;
      case CacheMode::Disk:
      case CacheMode::Lmdb:
        choice.fraction = on_disk;
        choice.saved_ns = on_disk * disk_saves;
        break;
      case CacheMode::Tiered:
        choice.ram_fraction = in_ram;
        choice.fraction = std::max(in_ram, on_disk);
        choice.saved_ns = in_ram * hit_saves + (choice.fraction - in_ram) * disk_saves;
        break;
    }
    return choice;
  }

  std::string explain(const CacheChoice& choice) const {
    char text[160];
    const auto ms = [](double ns) { return ns * 1e-6; };
    if (choice.mode == CacheMode::None) {
      const CacheChoice other = candidate(CacheMode::Ram, CacheContent::Decoded);
      std::snprintf(text, sizeof text,
                    "none: memory holds %.0f%% of the images, which would save %.2f ms of %.2f ms "
                    "per image",
                    100 * other.fraction, ms(std::max(other.saved_ns, 0.0)), ms(choice.cost_ns));
      return text;
    }
    const bool decoded = choice.content == CacheContent::Decoded;
    const double bytes = choice.fraction * static_cast<double>(m_.images) *
                         (decoded ? m_.decoded_bytes : m_.encoded_bytes);
    std::snprintf(text, sizeof text, ", %.0f%% of %lld images", 100 * choice.fraction,
                  static_cast<long long>(m_.images));
    std::string line = to_string(choice.mode) + ", " + (decoded ? "decoded" : "encoded") + text +
                       " in " + format_bytes(static_cast<std::int64_t>(bytes));
    if (choice.mode == CacheMode::Tiered) {
      std::snprintf(text, sizeof text, " (%.0f%% in memory)", 100 * choice.ram_fraction);
      line += text;
    }
    std::snprintf(text, sizeof text,
                  ": saves %.2f ms of %.2f ms per image (read %.2f, decode %.2f)",
                  ms(choice.saved_ns), ms(choice.cost_ns), ms(m_.load_ns), ms(m_.decode_ns));
    return line + text;
  }

  const CacheMeasurement& m_;
  const CacheWish& wish_;
  double ram_room_ = 0;
  double disk_room_ = 0;
};

}  // namespace

CacheChoice choose_cache(const CacheMeasurement& measured, const CacheWish& wish) {
  return Chooser(measured, wish).choose();
}

}  // namespace brim
