#include "config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config_options.h"
#include "experiment.h"
#include "support/test_data.h"
#include "training.h"

namespace brim::cli {
namespace {

using ::testing::HasSubstr;

template <typename F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Config parse(std::vector<std::string> arguments) {
  CLI::App app;
  ConfigOptions options(app);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return options.resolve();
}

TEST(Config, YamlRoundTripKeepsEveryKey) {
  Config config;
  config.data.path = "a \"quoted\" \\ path.yaml";
  config.train.lr0 = 0.0123456789;
  config.train.batch = "auto";
  config.model.auto_anchor = false;
  test::TempDir folder;
  write_yaml(config, folder.file("config.yaml"));
  Config read;
  read_yaml(read, folder.file("config.yaml"));
  EXPECT_EQ(to_yaml(read), to_yaml(config));
}

TEST(Config, UnknownYamlKeyNamesFileLineAndNearestKey) {
  test::TempDir folder;
  test::write_file(folder.file("e.yaml"), "train:\n  epochs: 3\n  learning_rate: 1\n  epochz: 4\n");
  Config config;
  const std::string first = message_of([&] { read_yaml(config, folder.file("e.yaml")); });
  EXPECT_THAT(first, HasSubstr("e.yaml:3: unknown key 'train.learning_rate'"));
  test::write_file(folder.file("f.yaml"), "train:\n  epochz: 4\n");
  const std::string second = message_of([&] { read_yaml(config, folder.file("f.yaml")); });
  EXPECT_THAT(second, HasSubstr("f.yaml:2: unknown key 'train.epochz'"));
  EXPECT_THAT(second, HasSubstr("nearest known key is 'train.epochs'"));
}

TEST(Config, BiasesWarmUpAtTheRateThatSuitsTheOptimiser) {
  EXPECT_EQ(warmup_bias_rate(parse({}).train), 0.1);
  EXPECT_EQ(warmup_bias_rate(parse({"--optimizer", "adam", "train.lr0=0.002"}).train), 0.002);
  EXPECT_EQ(warmup_bias_rate(parse({"--optimizer", "adamw", "train.lr0=0.002"}).train), 0.002);
  EXPECT_EQ(warmup_bias_rate(parse({"--optimizer", "adamw", "train.warmup_bias_lr=0.1"}).train),
            0.1);
  for (const char* wrong : {"-1", "fast", "0.1x", "nan", ""}) {
    EXPECT_THAT(message_of([&] {
                  warmup_bias_rate(parse({std::string("train.warmup_bias_lr=") + wrong}).train);
                }),
                HasSubstr("train.warmup_bias_lr: expected a number that is not negative, or auto"))
        << wrong;
  }
}

TEST(Config, MisplacedKeyIsSentToItsSection) {
  EXPECT_THAT(message_of([] { parse({"loader.epochs=3"}); }), HasSubstr("'train.epochs'"));
}

TEST(Config, ValuesOutOfRangeAndOfTheWrongKindAreRefused) {
  EXPECT_THAT(message_of([] { parse({"train.epochs=0"}); }), HasSubstr("expected a number in 1.."));
  EXPECT_THAT(message_of([] { parse({"train.epochs=2.5"}); }), HasSubstr("whole number"));
  EXPECT_THAT(message_of([] { parse({"train.lr0=nan"}); }), HasSubstr("expected a number"));
  EXPECT_THAT(message_of([] { parse({"train.cosine=perhaps"}); }), HasSubstr("true or false"));
  EXPECT_THAT(message_of([] { parse({"loader.cache=rom"}); }), HasSubstr("did you mean 'ram'"));
  EXPECT_THAT(message_of([] { parse({"train.epochs"}); }), HasSubstr("expected key=value"));
}

TEST(Config, YoloHabitsSetTheSameKeys) {
  const Config config =
      parse({"--data", "d.yaml", "--weights", "w.pt", "--img", "320", "--batch", "-1", "--cache",
             "--workers", "8", "--epochs", "3", "--device", "0", "--cos-lr", "--noval"});
  EXPECT_EQ(config.data.path, "d.yaml");
  EXPECT_EQ(config.model.weights, "w.pt");
  EXPECT_EQ(config.train.img, 320);
  EXPECT_EQ(config.train.batch, "-1");
  EXPECT_EQ(config.loader.cache, "ram");
  EXPECT_EQ(config.loader.workers, "8");
  EXPECT_EQ(config.train.device, "cuda:0");
  EXPECT_TRUE(config.train.cosine);
  EXPECT_FALSE(config.train.val);
}

TEST(Config, YoloSpellingsAreUnderstood) {
  const Config config = parse({"--cfg", "models/yolov5s.yaml", "--optimizer", "AdamW", "--freeze",
                               "0", "1", "2", "train.lr0=0.2", "--cache", "train.seed=4"});
  EXPECT_EQ(config.model.name, "yolov5s");
  EXPECT_EQ(config.train.optimizer, "adamw");
  EXPECT_EQ(config.model.freeze, 3);
  EXPECT_EQ(config.train.lr0, 0.2);
  EXPECT_EQ(config.loader.cache, "ram");
  EXPECT_EQ(config.train.seed, 4);
  EXPECT_EQ(parse({"train.epochs=7", "--cache", "train.seed=4"}).train.seed, 4);
  EXPECT_EQ(parse({"train.epochs=7", "--freeze", "2", "train.seed=4"}).train.epochs, 7);
  EXPECT_EQ(parse({"train.epochs=7", "--freeze", "2", "train.seed=4"}).train.seed, 4);
  EXPECT_EQ(parse({"--freeze", "10"}).model.freeze, 10);
  EXPECT_THAT(message_of([] { parse({"--freeze", "train.lr0=0.1"}); }), HasSubstr("no layers"));
  EXPECT_TRUE(is_override("train.sed=4"));  // its key is told to be unknown
  EXPECT_FALSE(is_override("./lr=0.1/*.jpg"));
  EXPECT_FALSE(is_override("a.b=c"));
  EXPECT_THAT(message_of([] {
                parse({"--freeze", "3", "4"});
              }),
              HasSubstr("from the first on only, found 3 4"));
  EXPECT_THAT(message_of([] { parse({"--device", "0,1"}); }), HasSubstr("brim launch"));
  EXPECT_THAT(message_of([] { parse({"--output", "a", "--name", "b"}); }), HasSubstr("twice"));
  // A file of the user's own is what it says.
  test::TempDir folder;
  test::write_file(folder.file("yolov5n.yaml"), "nc: 1\n");
  EXPECT_EQ(parse({"--cfg", folder.file("yolov5n.yaml")}).model.name, folder.file("yolov5n.yaml"));
}

TEST(Config, HalfPrecisionIsForGpus) {
  for (const auto& [device, precision] : {std::pair{"cpu", "auto"}, std::pair{"cuda", "fp16"}}) {
    CLI::App app{"", "val"};
    ConfigOptions options(app);
    app.parse(std::vector<std::string>{device, "--device", "--half"});
    EXPECT_EQ(options.resolve().train.precision, precision);
  }
}

TEST(Config, FlagsThatChangeNothingSaySo) {
  CLI::App app{"", "train"};
  ConfigOptions options(app);
  app.parse(std::vector<std::string>{"--rect"});
  options.resolve();
  ASSERT_EQ(options.notes().size(), 1u);
  EXPECT_THAT(options.notes()[0], HasSubstr("--rect: "));
}

TEST(Config, TheTaskOfValMayBeASplit) {
  for (const auto& [command, split] : {std::pair{"val", "test"}, std::pair{"train", "val"}}) {
    CLI::App app{"", command};
    ConfigOptions options(app);
    app.parse(std::vector<std::string>{"test", "--task"});
    if (std::string(command) == "val") {
      EXPECT_EQ(options.resolve().val.split, split);
      EXPECT_EQ(options.resolve().data.task, "auto");
    } else {
      EXPECT_THAT(message_of([&] { options.resolve(); }), HasSubstr("auto|detect|classify"));
    }
  }
}

TEST(Config, OverridesWinOverFlagsAndFlagsOverTheExperiment) {
  test::TempDir folder;
  test::write_file(folder.file("e.yaml"), "train:\n  epochs: 3\n  img: 96\n  seed: 5\n");
  const Config config =
      parse({"--config", folder.file("e.yaml"), "--img", "128", "--epochs", "7", "train.epochs=9"});
  EXPECT_EQ(config.train.seed, 5);
  EXPECT_EQ(config.train.img, 128);
  EXPECT_EQ(config.train.epochs, 9);
}

TEST(Config, HypFilesOfYoloUsersAreRead) {
  test::TempDir folder;
  test::write_file(folder.file("hyp.yaml"),
                   "lr0: 0.02\nbox: 0.07\nmosaic: 0.5\niou_t: 0.2\nfl_gamma: 1.5\n");
  Config config;
  read_hyp(config, folder.file("hyp.yaml"));
  EXPECT_EQ(config.train.lr0, 0.02);
  EXPECT_EQ(config.loss.box, 0.07);
  EXPECT_EQ(config.augment.mosaic, 0.5);
  EXPECT_EQ(config.loss.fl_gamma, 1.5);
}

TEST(Config, TheBiasRateThatEveryHypFileHasIsMeantForSgd) {
  test::TempDir folder;
  Config config;
  config.train.optimizer = "adamw";
  test::write_file(folder.file("hyp.yaml"), "lr0: 0.002\nwarmup_bias_lr: 0.1\n");
  read_hyp(config, folder.file("hyp.yaml"));
  EXPECT_EQ(warmup_bias_rate(config.train), 0.002);
  test::write_file(folder.file("hyp.yaml"), "warmup_bias_lr: 0.05\n");
  read_hyp(config, folder.file("hyp.yaml"));
  EXPECT_EQ(warmup_bias_rate(config.train), 0.05);
}

TEST(Config, ReadmeListsEveryKey) {
  const std::string readme = test::read_file(test::source_dir() + "/configs/README.md");
  EXPECT_THAT(readme, HasSubstr(key_table())) << "run `brim inspect keys` and paste its table";
}

TEST(Config, ShippedExperimentsAreValid) {
  for (const auto& entry :
       std::filesystem::directory_iterator(test::source_dir() + "/configs/experiments")) {
    Config config;
    EXPECT_NO_THROW(read_yaml(config, entry.path().string())) << entry.path();
  }
}

TEST(LargestSide, IsWhatMultiScaleCanChoose) {
  Config config;
  config.train.img = 96;
  EXPECT_EQ(largest_side(config), 96);
  config.train.multi_scale = true;
  EXPECT_EQ(largest_side(config), 160);  // 144 is no multiple of 32
  config.train.img = 640;
  EXPECT_EQ(largest_side(config), 960);
  config.model.name = "yolov5s6";
  config.train.img = 704;
  EXPECT_EQ(largest_side(config), 1088);
  config.model.name = "resnet18";
  config.train.img = 97;
  EXPECT_EQ(largest_side(config), 145);
}

}  // namespace
}  // namespace brim::cli
