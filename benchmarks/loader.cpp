// What the loader itself costs, with nothing to decode and nothing to augment.
#include "brim/dataloader/loader.h"

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include "brim/dataloader/random.h"

namespace brim {
namespace {

class Pixels final : public Dataset {
 public:
  std::int64_t size() const override { return 100000; }
  Record record(std::int64_t, RecordScratch&) const override {
    Record record;
    record.memory = bytes_;
    record.encoding = Encoding::RawGray;
    record.width = record.height = 4;
    return record;
  }
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t) const override { return {}; }

 private:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(16);
  std::vector<std::string> names_;
};

class Nothing final : public Transform {
 public:
  explicit Nothing(int partners) : partners_(partners) {}
  int width() const override { return 4; }
  int height() const override { return 4; }
  void choose(Recipe& recipe, PartnerDraw& partners) const override {
    while (recipe.source_count <= partners_) {
      recipe.sources[static_cast<std::size_t>(recipe.source_count++)] = partners.draw();
    }
  }
  DecodeRequest decode_request() const override { return {}; }
  void apply(const Recipe&, std::span<const Source>, TransformScratch*,
             SampleOut& out) const override {
    for (int y = 0; y < out.pixels.height; ++y) out.pixels.row(y)[0] = 0;
  }
  std::string describe() const override { return "nothing"; }

 private:
  int partners_;
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/// Arguments: workers, partners per sample.
void engine(benchmark::State& state) {
  Loader loader(std::make_shared<Pixels>(),
                std::make_shared<Nothing>(static_cast<int>(state.range(1))),
                {.batch_size = 64, .workers = static_cast<int>(state.range(0))});
  std::int64_t epoch = 0, samples = 0;
  loader.start(epoch);
  const double begin = cpu_seconds();
  for (auto _ : state) {
    std::optional<Batch> batch = loader.next();
    if (!batch) {
      loader.start(++epoch);
      batch = loader.next();
    }
    samples += batch->size();
  }
  state.SetItemsProcessed(samples);
  state.counters["cpu_us_per_sample"] =
      1e6 * (cpu_seconds() - begin) / static_cast<double>(samples);
}
BENCHMARK(engine)->ArgsProduct({{0, 1, 2}, {0, 3}})->UseRealTime();

void shuffle_at(benchmark::State& state) {
  const auto sampler = make_shuffle_sampler(state.range(0), 1);
  std::int64_t position = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sampler->at(3, position));
    position = (position + 1) % state.range(0);
  }
}
BENCHMARK(shuffle_at)->Arg(1000)->Arg(1 << 20)->Arg((1 << 20) + 1)->Arg(std::int64_t{1} << 40);

}  // namespace
}  // namespace brim

BENCHMARK_MAIN();
