// Training by two ranks of one thread each against one process with two threads, on the same total
// work, alternately. Prints both times and their ratio.
//   ranks [--pairs 3] [--steps 6] [--batch 16] [--size 320] [--model yolov5n]
#include <ATen/Parallel.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "brim/dataloader/torch/libtorch.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"
#include "brim/train/network.h"
#include "brim/train/process_group.h"
#include "brim/train/trainer.h"

namespace {
using Clock = std::chrono::steady_clock;

struct Settings {
  int pairs = 3, steps = 6;
  std::int64_t batch = 16, size = 320;
  std::string model = "yolov5n";
};

Settings parse(int argc, char** argv) {
  Settings s;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--pairs") s.pairs = std::atoi(argv[i + 1]);
    if (name == "--steps") s.steps = std::atoi(argv[i + 1]);
    if (name == "--batch") s.batch = std::atol(argv[i + 1]);
    if (name == "--size") s.size = std::atol(argv[i + 1]);
    if (name == "--model") s.model = argv[i + 1];
  }
  return s;
}

brim::TensorBatch random_batch(const Settings& s, std::int64_t images) {
  constexpr std::int64_t kBoxes = 8;
  brim::TensorBatch batch;
  batch.images = torch::randint(256, {images, 3, s.size, s.size}, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  batch.targets = torch::rand({images * kBoxes, 6}) * 0.3 + 0.3;
  batch.targets.select(1, 0).copy_(torch::arange(images * kBoxes).div(kBoxes, "floor"));
  batch.targets.select(1, 1).copy_(torch::randint(20, {images * kBoxes}));
  batch.samples.resize(static_cast<std::size_t>(images));
  return batch;
}

/// Seconds of the measured steps in this process.
double train(const Settings& s, const brim::RankPlace& place, int threads) {
  at::set_num_threads(threads);
  brim::install_cpu_allocator();
  const auto group = brim::connect(place);
  torch::manual_seed(1);
  const auto network = brim::make_network({.model = s.model, .classes = 20});
  const auto* detector = dynamic_cast<const brim::Detector*>(network.get());
  const auto objective = std::make_shared<brim::DetectionLoss>(detector->anchors(), 20);
  brim::TrainOptions options;
  options.batch_size = options.nominal_batch = s.batch;
  options.group = group;
  brim::Trainer trainer(network, objective, options);
  const brim::TensorBatch batch = random_batch(s, s.batch / group->size());
  for (int i = 0; i < 2; ++i) trainer.step(batch);
  const auto start = Clock::now();
  for (int i = 0; i < s.steps; ++i) trainer.step(batch);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  group->leave();
  return seconds;
}

/// The slowest rank's seconds.
double run(const Settings& s, int ranks, int threads, int port) {
  auto* seconds = static_cast<double*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    brim::RankPlace place;
    place.rank = place.local_rank = rank;
    place.size = place.local_size = ranks;
    place.port = port;
    try {
      seconds[rank] = train(s, place, threads);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      std::_Exit(1);
    }
    std::_Exit(0);
  }
  bool good = true;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    good &= status == 0;
  }
  if (!good) std::exit(1);
  const double slowest = *std::max_element(seconds, seconds + ranks);
  munmap(seconds, 4096);
  return slowest;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  std::vector<double> ratios;
  for (int pair = 0; pair < s.pairs; ++pair) {
    const double one = run(s, 1, 2, 0);
    const double two = run(s, 2, 1, 29600 + static_cast<int>(getpid() % 1000) + pair);
    ratios.push_back(two / one);
    std::printf("one process, 2 threads: %.3f s; 2 ranks, 1 thread each: %.3f s; ratio %.3f\n", one,
                two, two / one);
    std::fflush(stdout);
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("%s, batch %ld at %ld px, %d steps: median ratio %.3f\n", s.model.c_str(),
              static_cast<long>(s.batch), static_cast<long>(s.size), s.steps,
              ratios[ratios.size() / 2]);
  return 0;
}
