// The one ceiling (Law 2): random commands under random budgets stay below 1.02 of them, and what
// cannot work is refused with the smallest budget that does.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <regex>

#include "support/process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMiB = 1 << 20;
/// Random configurations; BRIM_TEST_CASES asks for more, BRIM_TEST_SEED for the same ones again.
constexpr int kCases = 6;
constexpr double kOver = 1.02;

enum class Ceiling { Option, ControlGroup, Data, AddressSpace };
const char* name_of(Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::Option:
      return "--memory";
    case Ceiling::ControlGroup:
      return "control group";
    case Ceiling::Data:
      return "RLIMIT_DATA";
    case Ceiling::AddressSpace:
      return "RLIMIT_AS";
  }
  return "?";
}

/// A memory control group of either version for one program; empty where none may be made.
class ControlGroup {
 public:
  explicit ControlGroup(std::int64_t limit) {
    static int number = 0;
    for (const std::string base : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
      const std::string made =
          base + "/brim-ceiling-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
      std::error_code error;
      if (!fs::exists(base + "/cgroup.procs") || !fs::create_directory(made, error)) continue;
      for (const char* file : {"/memory.limit_in_bytes", "/memory.max"}) {
        if (!fs::exists(made + file)) continue;
        std::ofstream(made + file) << limit;
        folder_ = made;
        return;
      }
      ::rmdir(made.c_str());
    }
  }
  ~ControlGroup() {
    if (!folder_.empty()) ::rmdir(folder_.c_str());
  }
  ControlGroup(const ControlGroup&) = delete;
  ControlGroup& operator=(const ControlGroup&) = delete;
  explicit operator bool() const { return !folder_.empty(); }
  void enter() const { std::ofstream(folder_ + "/cgroup.procs") << ::getpid(); }
  int kills() const {
    for (const char* file : {"/memory.oom_control", "/memory.events"}) {
      std::ifstream in(folder_ + file);
      for (std::string word; in >> word;)
        if (int count = 0; word == "oom_kill" && in >> count) return count;
    }
    return 0;
  }

 private:
  std::string folder_;
};

struct Case {
  std::vector<std::string> words;
  Ceiling ceiling = Ceiling::Option;
  std::int64_t budget = 0;

  std::string text() const {
    std::string line = name_of(ceiling) + (" " + std::to_string(budget / kMiB)) + " MiB: brim";
    for (const std::string& word : words) line += " " + word;
    return line;
  }
};

struct Outcome {
  ProcessResult result;
  int kills = 0;
};

/// Runs the case under `budget`; empty: such a ceiling may not be set here.
std::optional<Outcome> run_under(const Case& one, std::int64_t budget) {
  std::vector<std::string> words = one.words;
  ProcessOptions options;
  options.wait.timeout_seconds = 1800;  // a busy machine gives workers of low priority little
  std::unique_ptr<ControlGroup> group;
  const auto limit = [budget](auto resource) {
    const rlimit bytes{static_cast<rlim_t>(budget), static_cast<rlim_t>(budget)};
    ::setrlimit(resource, &bytes);
  };
  switch (one.ceiling) {
    case Ceiling::Option:
      words.insert(words.end(), {"--memory", std::to_string(budget)});
      break;
    case Ceiling::ControlGroup:
      group = std::make_unique<ControlGroup>(budget);
      if (!*group) return std::nullopt;
      options.before = [&group] { group->enter(); };
      break;
    case Ceiling::Data:
      options.before = [&] { limit(RLIMIT_DATA); };
      break;
    case Ceiling::AddressSpace:
      options.before = [&] { limit(RLIMIT_AS); };
      break;
  }
  Outcome outcome{.result = run_brim(words, options)};
  if (group != nullptr) outcome.kills = group->kills();
  return outcome;
}

/// Least ceiling under which the program can say its version: what libraries take depends on the
/// LibTorch, a CUDA one needs three times as much.
std::int64_t least(Ceiling ceiling) {
  static std::map<Ceiling, std::int64_t> known;
  std::int64_t& bytes = known[ceiling];
  if (bytes > 0) return bytes;
  Case version{.words = {"--version"}, .ceiling = ceiling};
  if (ceiling == Ceiling::Option || ceiling == Ceiling::ControlGroup)
    return bytes = run_brim(version.words).peak_resident;
  constexpr double kStep = 1.1;
  for (double tried = 64 * kMiB; bytes == 0 && tried < 64e9; tried *= kStep)
    if (run_under(version, static_cast<std::int64_t>(tried))->result.exit_code == 0)
      bytes = static_cast<std::int64_t>(tried);
  return bytes;
}

/// The bytes that a refusal names as enough.
std::optional<std::int64_t> named_budget(const std::string& error) {
  std::smatch found;
  if (!std::regex_search(error, found, std::regex("(?:works is|at least) ([0-9]+) MiB")))
    return std::nullopt;
  return std::stoll(found[1]) * kMiB;
}

class Ceilings : public testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "160",
                                         "--size", "480", "--out", folder_.file("set")});
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }

  template <class T>
  T one_of(std::initializer_list<T> all) {
    return *(all.begin() + random_() % all.size());
  }

  Case bench() {
    Case one;
    one.words = {"bench", "loader", "--data", folder_.file("set/data.yaml"), "--seconds", "0.6"};
    const auto add = [&](const char* name, const std::string& value) {
      one.words.insert(one.words.end(), {name, value});
    };
    add("--mode", one_of<std::string>({"letterbox", "mosaic"}));
    add("--img", one_of<std::string>({"160", "320", "640", "960"}));
    add("--workers", one_of<std::string>({"0", "1", "2", "4", "8"}));
    add("--batch", one_of<std::string>({"1", "4", "16", "48"}));
    add("--cache", one_of<std::string>({"none", "ram", "ram", "disk", "lmdb", "tiered", "auto"}));
    add("--content", one_of<std::string>({"decoded", "encoded"}));
    add("--partners", one_of<std::string>({"window", "uniform"}));
    add("--cache-dir", folder_.file("cache"));
    if (random_() % 3 == 0) add("--cache-size", one_of<std::string>({"20MiB", "60MiB"}));
    return one;
  }

  Case training() {
    Case one;
    one.words = {"train",
                 "--data",
                 folder_.file("set/data.yaml"),
                 "--model",
                 "yolov5n",
                 "--epochs",
                 "1",
                 "--max-steps",
                 "2",
                 "--noplots",
                 "--exist-ok",
                 "--output",
                 folder_.file("run"),
                 "loader.cache_dir=" + folder_.file("cache")};
    const auto add = [&](const char* name, const std::string& value) {
      one.words.insert(one.words.end(), {name, value});
    };
    add("--img", one_of<std::string>({"160", "224", "320"}));
    add("--batch", one_of<std::string>({"1", "2", "4", "8"}));
    add("--workers", one_of<std::string>({"0", "1", "2", "4"}));
    add("--cache", one_of<std::string>({"none", "ram", "disk", "lmdb", "tiered"}));
    one.words.push_back("loader.prefetch=" + one_of<std::string>({"auto", "1", "2", "8"}));
    one.words.push_back("loader.content=" + one_of<std::string>({"decoded", "encoded"}));
    if (random_() % 2 == 0) one.words.push_back("--noval");
    return one;
  }

  Case random_case() {
    Case one = random_() % 3 == 0 ? training() : bench();
    one.ceiling = one_of({Ceiling::Option, Ceiling::Option, Ceiling::ControlGroup, Ceiling::Data,
                          Ceiling::AddressSpace});
    // Up to 8 GB, most of them small, but what a library's own initialisation fails in is no case.
    const std::int64_t room = one.ceiling == Ceiling::AddressSpace ? 300
                              : one.ceiling == Ceiling::Data       ? 200
                                                                   : 140;
    const auto low = static_cast<double>(least(one.ceiling) + room * kMiB);
    const double part = std::uniform_real_distribution<double>(0, 1)(random_);
    one.budget = static_cast<std::int64_t>(low * std::pow(8e9 / low, part * part));
    return one;
  }

  void expect_below(const Case& one, std::int64_t budget, const Outcome& outcome) {
    const double share =
        static_cast<double>(outcome.result.peak_resident) / static_cast<double>(budget);
    EXPECT_LT(share, kOver) << "resident " << outcome.result.peak_resident / kMiB << " MiB of "
                            << budget / kMiB << " MiB\n"
                            << one.text();
    highest_ = std::max(highest_, share);
  }

  /// Works below its ceiling, or is refused with one under which it works.
  void check(const Case& one) {
    const std::optional<Outcome> outcome = run_under(one, one.budget);
    if (!outcome) {
      ++skipped_;
      return;
    }
    EXPECT_EQ(outcome->kills, 0) << one.text();
    const ProcessResult& result = outcome->result;
    std::printf("exit %d, %lld MiB resident: %s\n", result.exit_code,
                static_cast<long long>(result.peak_resident / kMiB), one.text().c_str());
    std::fflush(stdout);
    ++(result.exit_code == 0 ? worked_ : refused_);
    if (result.exit_code == 0) return expect_below(one, one.budget, *outcome);
    ASSERT_EQ(result.exit_code, 2) << one.text() << "\n" << result.error;
    const std::optional<std::int64_t> enough = named_budget(result.error);
    ASSERT_TRUE(enough) << one.text() << "\n" << result.error;
    EXPECT_GT(*enough, one.budget) << one.text() << "\n" << result.error;
    const std::optional<Outcome> again = run_under(one, *enough);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->kills, 0) << one.text();
    EXPECT_EQ(again->result.exit_code, 0)
        << "the named " << *enough / kMiB << " MiB do not suffice\n"
        << one.text() << "\n"
        << again->result.error;
    if (again->result.exit_code == 0) expect_below(one, *enough, *again);
  }

  TempDir folder_;
  std::mt19937_64 random_;
  int worked_ = 0, refused_ = 0, skipped_ = 0;
  double highest_ = 0;
};

TEST_F(Ceilings, HoldForRandomCommandsUnderRandomBudgets) {
  const std::uint64_t seed = number_of("BRIM_TEST_SEED", std::random_device{}());
  const int cases = static_cast<int>(number_of("BRIM_TEST_CASES", kCases));
  for (int i = 0; i < cases; ++i) {
    random_.seed(seed + static_cast<std::uint64_t>(i));
    SCOPED_TRACE("BRIM_TEST_CASES=1 BRIM_TEST_SEED=" +
                 std::to_string(seed + static_cast<std::uint64_t>(i)));
    check(random_case());
  }
  std::printf("%d worked, %d were refused, %d had no control group; at most %.3f of the budget\n",
              worked_, refused_, skipped_, highest_);
}

TEST_F(Ceilings, RefuseATrainingThatCannotWork) {
  Case one = training();
  one.budget = least(one.ceiling) + 47 * kMiB;
  check(one);
  EXPECT_EQ(refused_, 1);
}

/// A tuned training of `model`, which its ceiling refuses.
Case tuned(const std::string& data, const std::string& model, const std::string& output) {
  Case one;
  one.words = {"train",
               "--data",
               data,
               "--model",
               model,
               "--img",
               "480",
               "--batch",
               "-1",
               "--noval",
               "--cache",
               "none",
               "--output",
               output,
               "--noplots",
               "loader.workers=1",
               "loader.prefetch=1"};
  return one;
}

TEST_F(Ceilings, RefuseATunedTrainingWithItsAccountAndWhatWouldHelp) {
  const ProcessResult none =
      run_under(tuned(folder_.file("set/data.yaml"), "yolov5s", folder_.file("run")),
                least(Ceiling::Option) + 197 * kMiB)
          ->result;
  EXPECT_EQ(none.exit_code, 2);
  for (const char* part : {"too small for one image", "one image takes about", "activations",
                           "hint: model.name=yolov5n would take"})
    EXPECT_NE(none.error.find(part), std::string::npos) << part << "\n" << none.error;
}

TEST_F(Ceilings, AreTunedForTheValidationsLoaderToo) {
  const auto loaders = [&](const std::string& validates) {
    const ProcessResult tuned =
        run_brim({"tune", "--data", folder_.file("set/data.yaml"), "--model", "yolov5n", "--img",
                  "160", "--cache", "none", "--output", folder_.file(validates),
                  "train.val=" + validates, "--memory", "800MiB"});
    EXPECT_EQ(tuned.exit_code, 0) << tuned.error;
    return nlohmann::json::parse(read_file(folder_.file(validates + "/tune.json")))
        .at("loader_bytes")
        .get<std::int64_t>();
  };
  EXPECT_GT(loaders("true"), loaders("false"));
}

/// Its weights alone, four times over, are more than the group may have: the refusal is not to be
/// what ends the program.
TEST_F(Ceilings, RefuseAModelFarTooLargeForItsControlGroup) {
  Case one = tuned(folder_.file("set/data.yaml"), "yolov5l", folder_.file("run"));
  one.ceiling = Ceiling::ControlGroup;
  const std::optional<Outcome> outcome = run_under(one, least(one.ceiling) + 267 * kMiB);
  if (!outcome) GTEST_SKIP() << "no control group may be made here";
  EXPECT_EQ(outcome->result.exit_code, 2) << outcome->result.error;
  EXPECT_NE(outcome->result.error.find("too small for one image"), std::string::npos)
      << outcome->result.error;
}

TEST_F(Ceilings, RefuseALoaderThatCannotWork) {
  Case one = bench();
  one.budget = least(one.ceiling) + 17 * kMiB;
  check(one);
  EXPECT_EQ(refused_, 1);
}

}  // namespace
}  // namespace brim::test
