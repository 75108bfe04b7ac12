// brim bench: measures the loader on one's own data.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench_loader.h"
#include "experiment.h"
#include "program.h"

namespace brim::cli {
namespace {

using nlohmann::json;

json to_json(const BenchLoaderResult& r) {
  json stages = json::array();
  for (const StageStatistics& stage : r.statistics.stages) {
    stages.push_back({{"name", stage.name},
                      {"items", stage.items},
                      {"busy_seconds", 1e-9 * static_cast<double>(stage.busy_ns)},
                      {"p50_us", stage.p50_us},
                      {"p90_us", stage.p90_us},
                      {"p99_us", stage.p99_us}});
  }
  return {{"dataset", r.dataset},
          {"transform", r.transform},
          {"cache", r.cache},
          {"images", r.images},
          {"samples", r.samples},
          {"workers", r.plan.workers},
          {"images_per_second", r.images_per_second},
          {"cpu_seconds_per_image", r.cpu_seconds_per_image},
          {"first_batch_seconds", r.first_batch_seconds},
          {"epoch_boundary_seconds", r.epoch_boundary_seconds},
          {"peak_bytes", r.peak_bytes},
          {"loader_bytes", r.loader_bytes},
          {"bound_images_per_second", r.bound_images_per_second},
          {"bound_scale", r.bound_scale},
          {"bound_scaled_images_per_second", r.bound_scaled_images_per_second},
          {"bound_cpu_seconds_per_image", r.bound_cpu_seconds_per_image},
          {"share_of_bound", r.share_of_bound},
          {"share_of_scaled_bound", r.share_of_scaled_bound},
          {"digest", fmt::format("{:016x}", r.digest)},
          {"stages", stages},
          {"verdict", r.verdict}};
}

void print(Console& console, const BenchLoaderResult& r, const BenchLoaderOptions& options) {
  if (options.measure) {
    console.print(fmt::format("{}: {} images, {}, cache {}, {} workers", r.dataset, r.images,
                              r.transform, r.cache, r.plan.workers));
    console.print(format_table({
        {"measure", "value"},
        {"throughput", fmt::format("{:.1f} images/s", r.images_per_second)},
        {"D, TurboJPEG alone", fmt::format("{:.1f} images/s", r.bound_images_per_second)},
        {"share of D", fmt::format("{:.2f}", r.share_of_bound)},
        {fmt::format("share of D at scale 1/{}", r.bound_scale),
         fmt::format("{:.2f}", r.share_of_scaled_bound)},
        {"CPU per image", fmt::format("{:.2f} ms", 1e3 * r.cpu_seconds_per_image)},
        {"CPU per image, D", fmt::format("{:.2f} ms", 1e3 * r.bound_cpu_seconds_per_image)},
        {"first batch", fmt::format("{:.3f} s", r.first_batch_seconds)},
        {"epoch boundary", fmt::format("{:.3f} s", r.epoch_boundary_seconds)},
        {"peak resident", format_bytes(r.peak_bytes)},
    }));
    std::vector<std::vector<std::string>> rows{
        {"stage", "items", "busy s", "p50 us", "p90 us", "p99 us"}};
    for (const StageStatistics& stage : r.statistics.stages) {
      rows.push_back({stage.name, std::to_string(stage.items),
                      fmt::format("{:.2f}", 1e-9 * static_cast<double>(stage.busy_ns)),
                      fmt::format("{:.0f}", stage.p50_us), fmt::format("{:.0f}", stage.p90_us),
                      fmt::format("{:.0f}", stage.p99_us)});
    }
    console.print(format_table(rows));
    console.print(r.verdict);
  }
  if (options.digest) console.print(fmt::format("digest {:016x}", r.digest));
}

}  // namespace

void add_bench_command(CLI::App& app, Program& program) {
  CLI::App* bench = app.add_subcommand("bench", "Measures the loader on your data");
  bench->require_subcommand(1);
  CLI::App* loader = bench->add_subcommand(
      "loader", "Throughput beside TurboJPEG alone, CPU, memory and what limits it");
  loader->footer(
      "Example: brim bench loader --data data.yaml --img 640 --mode mosaic --workers 2 --cache "
      "ram");
  struct State {
    BenchLoaderOptions options;
    std::string mode = "mosaic", cache = "none", split = "train", workers = "auto", memory, size,
                content = "decoded", partners = "window";
    bool json = false, digest_only = false;
  };
  auto s = std::make_shared<State>();
  loader->add_option("--data", s->options.data, "data.yaml, folder, COCO JSON, shards, IDX")
      ->required();
  loader->add_option("--img", s->options.image_size, "side of the samples, pixels")
      ->check(CLI::Range(8, 8192));
  loader->add_option("--mode", s->mode, "letterbox, mosaic or classify");
  loader->add_option("--batch", s->options.loader.batch_size, "samples per batch")
      ->check(CLI::Range(1, 1'000'000'000));
  loader->add_option("--workers", s->workers, "decoding threads, or auto");
  loader->add_option("--cache", s->cache, "auto, none, ram, disk, lmdb or tiered");
  loader->add_option("--cache-size", s->size, "bytes the cache may hold, e.g. 1GiB");
  loader->add_option("--cache-dir", s->options.cache_directory, "folder of disk and lmdb caches");
  loader->add_option("--content", s->content, "what the cache keeps")
      ->check(CLI::IsMember({"decoded", "encoded"}));
  loader->add_option("--partners", s->partners, "where mosaics take their partners from")
      ->check(CLI::IsMember({"window", "uniform"}));
  loader->add_option("--memory", s->memory, "bytes the process may hold, e.g. 600MiB");
  loader->add_option("--split", s->split, "train, val or test");
  loader->add_option("--seed", s->options.loader.seed, "of order and augmentation");
  loader->add_option("--epoch", s->options.digest_epoch, "epoch whose digest is taken");
  loader->add_option("--seconds", s->options.seconds, "how long to measure");
  loader->add_flag("--digest", s->options.digest, "print the digest of one whole epoch");
  loader->add_flag("--digest-only", s->digest_only, "the digest and nothing else");
  loader->add_flag("--json", s->json, "print JSON");
  loader->callback([&program, s] {
    program.console.set_quiet(s->json);
    BenchLoaderOptions& o = s->options;
    o.mode = parse_bench_mode(s->mode);
    o.choose_cache = s->cache == "auto";
    if (!o.choose_cache) o.cache = parse_cache_mode(s->cache, "--cache");
    o.dataset.split = parse_split(s->split);
    o.loader.workers = static_cast<int>(count_or_auto(s->workers, "--workers"));
    o.loader.cache_content =
        s->content == "encoded" ? CacheContent::Encoded : CacheContent::Decoded;
    o.loader.partners = s->partners == "uniform" ? Partners::Uniform : Partners::Window;
    if (!s->memory.empty()) o.memory_bytes = parse_bytes(s->memory, "--memory");
    if (!s->size.empty()) o.cache_bytes = parse_bytes(s->size, "--cache-size");
    if (o.cache_directory.empty()) o.cache_directory = user_cache_directory();
    if (s->digest_only) {
      o.digest = true;
      o.measure = false;
    }
    const BenchLoaderResult result = bench_loader(o);
    print(program.console, result, o);
    if (s->json) program.console.json(to_json(result).dump(2));
  });
}

}  // namespace brim::cli
