#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "brim/train/checkpoint.h"
#include "brim/train/classification_loss.h"
#include "brim/train/detection_loss.h"
#include "brim/train/evaluate.h"
#include "brim/train/process_group.h"
#include "brim/train/trainer.h"
#include "support/child_process.h"
#include "support/ports.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

/// Runs `body` as every one of `size` ranks in a process of its own; true when all of them succeed.
bool as_ranks(int size,
              const std::function<void(ProcessGroup&, std::shared_ptr<ProcessGroup>)>& body) {
  const int port = TakenPort().port();
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    children.push_back(start_child([&, rank] {
      at::set_num_threads(1);
      try {
        RankPlace place;
        place.rank = place.local_rank = rank;
        place.size = place.local_size = size;
        place.port = port;
        const auto group = connect(place);
        body(*group, group);
        group->leave();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "rank %d of %d: %s\n", rank, size, error.what());
        return 1;
      }
      return 0;
    }));
  }
  bool good = true;
  for (const pid_t child : children) good &= wait_code(child) == 0;
  return good;
}

constexpr int kSteps = 20;
constexpr std::int64_t kBatch = 8;

/// Images of step `step`: the last batch of an epoch may be short.
std::int64_t images_of(int step) {
  return step == 5 ? 7 : step == 11 ? 1 : kBatch;
}

TensorBatch whole_batch(int step) {
  torch::Generator random = at::detail::createCPUGenerator(100 + static_cast<unsigned>(step));
  const std::int64_t images = images_of(step);
  TensorBatch batch;
  batch.images = torch::randint(256, {images, 3, 64, 64}, random, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  const std::int64_t targets = images * 2 - 1;
  batch.targets = torch::rand({targets, 6}, random) * 0.5 + 0.25;
  batch.targets.select(1, 0).copy_(torch::randint(images, {targets}, random, torch::kFloat));
  batch.targets.select(1, 1).copy_(torch::randint(3, {targets}, random, torch::kFloat));
  batch.class_ids = torch::randint(3, {images}, random, torch::kLong);
  batch.samples.resize(static_cast<std::size_t>(images));
  batch.number = step;
  return batch;
}

/// What the loader gives rank `rank` of that batch: every R-th image, filled up with padding.
TensorBatch share_of(const TensorBatch& whole, int rank, int size) {
  const std::int64_t each = (whole.size() + size - 1) / size;
  TensorBatch share;
  share.number = whole.number;
  std::vector<torch::Tensor> images, classes, targets{torch::empty({0, 6})};
  for (std::int64_t i = 0; i < each; ++i) {
    const std::int64_t place = i * size + rank;
    SampleInfo sample;
    sample.padding = place >= whole.size();
    const std::int64_t image = place % whole.size();
    images.push_back(whole.images[image]);
    classes.push_back(whole.class_ids[image]);
    torch::Tensor rows = whole.targets.index({whole.targets.select(1, 0) == image}).clone();
    rows.select(1, 0).fill_(i);
    targets.push_back(rows);
    share.samples.push_back(sample);
  }
  share.images = torch::stack(images).contiguous(torch::MemoryFormat::ChannelsLast);
  share.targets = torch::cat(targets);
  share.class_ids = torch::stack(classes);
  return share;
}

struct TrainedModel {
  std::string model = "yolov5n";
  std::int64_t micro_batch = 0;
  int first = 0, steps = kSteps;  // a window of two steps each
};

/// Trains from fixed weights; parameters and buffers thereafter. The rate is that of a
/// warm-up: at larger ones two sums of the same numbers in another order grow apart by themselves,
/// since max pooling of nearly equal values sends whole gradients elsewhere.
TensorMap trained(const std::shared_ptr<ProcessGroup>& group, const TrainedModel& what) {
  torch::manual_seed(group->rank() == 0 ? 3 : 4);  // the others' weights come from rank 0
  const auto network = make_network({.model = what.model, .classes = 3});
  std::shared_ptr<Objective> objective = std::make_shared<ClassificationLoss>();
  if (const auto* detector = dynamic_cast<const Detector*>(network.get()))
    objective = std::make_shared<DetectionLoss>(detector->anchors(), 3);
  TrainOptions options;
  options.batch_size = kBatch;
  options.nominal_batch = 2 * kBatch;
  options.micro_batch = what.micro_batch / group->size();
  options.schedule = [](int, std::int64_t, std::int64_t) {
    constexpr double kRate = 1e-3;
    return StepPlan{{kRate, kRate, kRate}, 0.937, 2};
  };
  options.group = group;
  Trainer trainer(network, objective, options);
  for (int step = 0; step < what.steps; ++step)
    trainer.step(share_of(whole_batch(what.first + step), group->rank(), group->size()));
  return state_of(*network);
}

void save(const TensorMap& state, const std::string& path) {
  std::vector<torch::Tensor> tensors;
  for (const auto& [name, tensor] : state) tensors.push_back(tensor.contiguous());
  torch::save(tensors, path);
}

double largest_difference(const std::string& a, const std::string& b) {
  std::vector<torch::Tensor> one, other;
  torch::load(one, a);
  torch::load(other, b);
  double most = one.size() == other.size() ? 0.0 : 1e9;
  for (std::size_t i = 0; most < 1e9 && i < one.size(); ++i) {
    const torch::Tensor difference =
        (one[i].to(torch::kDouble) - other[i].to(torch::kDouble)).abs();
    most = std::max(most, difference.max().item<double>());
  }
  return most;
}

struct RanksOf {
  int ranks = 2;
  TrainedModel what{};
};

class TrainedByRanks : public testing::TestWithParam<RanksOf> {};

TEST_P(TrainedByRanks, HasTheParametersOfOneProcessWithTheWholeBatch) {
  const auto& [ranks, what] = GetParam();
  const TempDir dir;
  ASSERT_EQ(in_child([&] {
              at::set_num_threads(1);
              TrainedModel begin = what;
              begin.steps = 0;
              save(trained(make_single_process(), begin), dir.file("begin"));
              save(trained(make_single_process(), what), dir.file("one"));
              return 0;
            }),
            "exit 0");
  ASSERT_TRUE(as_ranks(ranks, [&](ProcessGroup& group, const auto& shared) {
    save(trained(shared, what), dir.file("rank" + std::to_string(group.rank())));
  }));
  const double difference = largest_difference(dir.file("one"), dir.file("rank0"));
  std::printf("largest difference: %.2e\n", difference);
  EXPECT_LE(difference, 1e-5);
  EXPECT_EQ(largest_difference(dir.file("rank0"), dir.file("rank1")), 0);
  EXPECT_GT(largest_difference(dir.file("begin"), dir.file("one")), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Of, TrainedByRanks,
    testing::Values(RanksOf{2, {}}, RanksOf{4, {}}, RanksOf{2, {.micro_batch = 4}},
                    RanksOf{4, {.micro_batch = 4}},
                    // Kinks of ReLU part two runs soon: two steps, the second of 7 images.
                    RanksOf{2, {.model = "resnet18", .first = 4, .steps = 2}}),
    [](const auto& test) {
      const TrainedModel& what = test.param.what;
      return std::to_string(test.param.ranks) + "_" + what.model +
             (what.micro_batch > 0 ? "_in_parts" : "");
    });

class Ranks : public testing::TestWithParam<int> {};

TEST_P(Ranks, ScoreLikeOneProcess) {
  const int size = GetParam();
  torch::manual_seed(8);
  std::vector<std::vector<Detection>> found(11);
  std::vector<std::vector<LabelledBox>> labels(11);
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (int k = 0; k < 6; ++k) {
      const auto at = static_cast<float>(10 * k + static_cast<int>(i));
      labels[i].push_back({k % 3, {at, at, at + 8, at + 8}});
      // Equal confidences: only the order of images decides.
      found[i].push_back({{at + 1, at, at + 9, at + 8}, 0.5F, (k + static_cast<int>(i)) % 3});
    }
  }
  DetectionMetrics whole(3);
  std::vector<DetectionMetrics> parts(static_cast<std::size_t>(size), DetectionMetrics(3));
  for (std::size_t i = 0; i < found.size(); ++i) {
    whole.add(found[i], labels[i]);
    parts[i % static_cast<std::size_t>(size)].add(found[i], labels[i]);
  }
  std::vector<std::vector<std::int64_t>> packed;
  for (const DetectionMetrics& part : parts) packed.push_back(part.pack());
  const DetectionMetrics joined = DetectionMetrics::interleave(3, packed);
  EXPECT_EQ(joined.pack(), whole.pack());
  EXPECT_EQ(joined.compute().map50_95, whole.compute().map50_95);
}

INSTANTIATE_TEST_SUITE_P(Of, Ranks, testing::Values(2, 4));

TEST(ProcessGroup, GathersRowsAndTextOfUnequalLength) {
  EXPECT_TRUE(as_ranks(2, [](ProcessGroup& group, const auto&) {
    const auto rows =
        gather_rows(group, torch::full({group.rank() * 2, 3}, group.rank(), torch::kLong));
    TORCH_CHECK(rows[0].size(0) == 0 && rows[1].size(0) == 2 && rows[1].eq(1).all().item<bool>());
    TORCH_CHECK(gather_text(group, group.rank() == 0 ? "" : "two")[1] == "two");
    TORCH_CHECK(text_of_root(group, group.rank() == 0 ? "root" : "other") == "root");
    TORCH_CHECK(smallest(group, 7 - group.rank()) == 6);
  }));
}

TEST(ProcessGroup, GathersAndSumsInTheSameOrderHoweverLargeTensorsAre) {
  EXPECT_TRUE(as_ranks(3, [](ProcessGroup& group, const auto&) {
    for (const std::int64_t count : {0, 1, 7, 8192, 8193, 40000}) {  // 64 KiB go by memory
      for (const auto type : {torch::kLong, torch::kFloat, torch::kByte}) {
        const torch::Tensor own = torch::full({count}, group.rank() + 1, type);
        const auto all = group.gather(own);
        TORCH_CHECK(all.size() == 3);
        for (int rank = 0; rank < 3; ++rank)
          TORCH_CHECK(all[static_cast<std::size_t>(rank)].equal(torch::full_like(own, rank + 1)));
        if (type == torch::kByte || count == 0) continue;
        const torch::Tensor sum = own.clone();
        group.reduce(sum, Reduction::Sum);
        TORCH_CHECK(sum.eq(6).all().item<bool>());
      }
    }
  }));
}

TEST(ProcessGroup, SaysThatThePortIsTaken) {
  const TakenPort taken;
  RankPlace place;
  place.size = 2;
  place.port = taken.port();
  try {
    connect(place, {.meet_timeout = std::chrono::milliseconds(2000)});
    ADD_FAILURE() << "the port was taken";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("is taken"), std::string::npos) << error.what();
  }
}

TEST(ProcessGroup, NamesTheRankThatDidNotCome) {
  RankPlace place;
  place.size = 2;
  place.port = TakenPort().port();
  try {
    connect(place, {.meet_timeout = std::chrono::milliseconds(500)});
    ADD_FAILURE() << "nobody came";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("missing: 1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace brim::test
