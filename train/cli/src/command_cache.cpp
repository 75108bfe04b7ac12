// brim cache: fills, checks, shows and removes image caches.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "brim/cache/maintenance.h"
#include "brim/dataloader/loader.h"
#include "cache_uses.h"
#include "config_options.h"
#include "experiment.h"
#include "program.h"

namespace brim::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

/// Asks the loader for exactly the pixels that `transform` needs, and keeps none of them: reading
/// an epoch through it fills the cache.
class FillTransform final : public Transform {
 public:
  explicit FillTransform(DecodeRequest request) : request_(request) {}
  int width() const override { return 1; }
  int height() const override { return 1; }
  DecodeRequest decode_request() const override { return request_; }
  void apply(const Recipe&, std::span<const Source>, TransformScratch*,
             SampleOut& out) const override {
    std::fill_n(out.pixels.data, 3, std::uint8_t{0});
  }
  std::string describe() const override { return "fill"; }

 private:
  DecodeRequest request_;
};

json to_json(const StoreStats& stats) {
  return {{"entries", stats.entries},       {"bytes", stats.bytes},
          {"byte_limit", stats.byte_limit}, {"puts", stats.puts},
          {"rejected", stats.rejected},     {"damaged", stats.damaged},
          {"last_error", stats.last_error}};
}

void build_cache(Program& program, const Config& config, Split split, bool as_json) {
  if (config.loader.cache == "none" || config.loader.cache == "ram" ||
      config.loader.cache == "auto") {
    throw Error("only disk and lmdb caches outlive the program", {.key = "loader.cache"},
                "use --cache disk or --cache lmdb");
  }
  const auto data = open_data(config, split);
  const auto budget = make_budget(config);
  const auto store = make_cache(config, budget);
  const auto transform = training_transform(config, task_of(config, *data));
  LoaderOptions options = evaluation_loader(config, 64, store, budget);
  options.fill_share = kFillAtOnce;
  note_use(config, split, *transform, options);
  Loader loader(data, std::make_shared<FillTransform>(transform->decode_request()), options);
  const auto start = Clock::now();
  loader.start(0);
  std::int64_t done = 0;
  while (const auto batch = loader.next()) {
    done += batch->size();
    const StoreStats stats = store->stats();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    program.console.progress(fmt::format(
        "{}/{} images  {:.0f}/s  {}  already there {}  left {}", done, data->size(),
        static_cast<double>(done) / std::max(seconds, 1e-3), format_bytes(stats.bytes), stats.hits,
        format_duration(seconds / static_cast<double>(done) *
                        static_cast<double>(data->size() - done))));
    if (stop_requested.load()) break;
  }
  store->flush();
  const StoreStats stats = store->stats();
  for (const QuarantineEntry& bad : loader.quarantine()) {
    program.console.warn(bad.path + ": " + bad.reason);
  }
  if (!stats.last_error.empty()) program.console.warn(stats.last_error);
  program.console.print(fmt::format("{}: {} entries, {}; {} images did not fit", store->describe(),
                                    stats.entries, format_bytes(stats.bytes), stats.rejected));
  if (as_json) program.console.json(to_json(stats).dump(2));
  if (stop_requested.load()) program.exit_code = 130;
}

/// The caches on disk that the command line means: those of one mode, or all of them.
std::vector<CacheFolder> folders_of(const Config& config) {
  if (!config.data.path.empty())
    throw Error("the entries of all data sets are looked at", {.key = "data.path"},
                "leave --data away, or name a folder with loader.cache_dir");
  std::vector<CacheFolder> folders = find_cache_folders(cache_directory(config));
  if (config.loader.cache != "none" && config.loader.cache != "auto") {
    const CacheMode mode = parse_cache_mode(config.loader.cache, "loader.cache");
    std::erase_if(folders, [&](const CacheFolder& folder) { return folder.mode != mode; });
  }
  if (folders.empty()) {
    throw Error("no image cache here", {.file = cache_directory(config)},
                "brim cache build makes one; loader.cache_dir=FOLDER names another place");
  }
  return folders;
}

std::shared_ptr<Store> open_folder(const Config& config, const CacheFolder& folder) {
  return make_store({.mode = folder.mode, .directory = cache_directory(config)});
}

void verify_caches(Program& program, const Config& config, bool as_json) {
  json all = json::array();
  for (const CacheFolder& folder : folders_of(config)) {
    const auto store = open_folder(config, folder);
    const VerifyResult check = verify_store(*store, [&](std::int64_t done, std::int64_t total) {
      program.console.progress(fmt::format("{}/{} entries", done, total));
    });
    program.console.print(fmt::format("{} ({}): {} entries, {} intact, {} damaged and dropped, {}",
                                      folder.directory, to_string(folder.mode), check.entries,
                                      check.intact, check.damaged,
                                      format_bytes(check.value_bytes)));
    all.push_back({{"directory", folder.directory},
                   {"mode", to_string(folder.mode)},
                   {"entries", check.entries},
                   {"intact", check.intact},
                   {"damaged", check.damaged},
                   {"value_bytes", check.value_bytes}});
    if (check.damaged > 0) program.exit_code = 2;
  }
  if (as_json) program.console.json(all.dump(2));
}

void show_caches(Program& program, const Config& config, bool as_json) {
  json all = json::array();
  std::vector<std::vector<std::string>> rows{{"cache", "folder", "entries", "values", "on disk"}};
  for (const CacheFolder& folder : folders_of(config)) {
    const StoreStats stats = open_folder(config, folder)->stats();
    rows.push_back({to_string(folder.mode), folder.directory, std::to_string(stats.entries),
                    format_bytes(stats.bytes), format_bytes(folder.disk_bytes)});
    json row = to_json(stats);
    row["mode"] = to_string(folder.mode);
    row["directory"] = folder.directory;
    row["disk_bytes"] = folder.disk_bytes;
    all.push_back(row);
  }
  program.console.print(format_table(rows));
  if (as_json) program.console.json(all.dump(2));
}

void collect(Program& program, const Config& config, std::int64_t most_days, GarbageMode mode,
             bool as_json) {
  const std::string directory = cache_directory(config);
  const bool removes = mode == GarbageMode::Remove;
  const std::string user = user_cache_directory();
  const WantedEntries wanted =
      wanted_entries(directory, user.empty() ? "" : user + "/index", most_days);
  for (const std::string& data : wanted.gone)
    program.console.print("no longer wanted: images of " + data);
  KeepEntry keep;
  // Without a single noted use nothing is known of the entries: they stay.
  if (wanted.uses > 0) keep = [&](const CacheKey& key) { return wanted.keys.contains(key); };
  const GarbageResult result = collect_garbage(directory, keep, mode);
  if (removes) forget(wanted.gone_notes);
  program.console.print(fmt::format(
      "{}: {} of {} entries and {} leftovers {}, {} {}", directory, result.removed_entries,
      result.entries, result.leftovers, removes ? "removed" : "would be removed",
      format_bytes(result.freed_bytes), removes ? "freed" : "would become free"));
  if (as_json) {
    program.console.json(json({{"entries", result.entries},
                               {"removed_entries", result.removed_entries},
                               {"leftovers", result.leftovers},
                               {"freed_bytes", result.freed_bytes},
                               {"dry_run", !removes}})
                             .dump(2));
  }
}

void remove(Program& program, const Config& config, bool as_json) {
  if (config.loader.cache != Config().loader.cache)
    throw Error("rm removes caches of every kind", {.key = "loader.cache"}, "leave it out");
  const std::string directory = cache_directory(config);
  std::int64_t bytes = 0;
  if (config.data.path.empty()) {
    bytes = remove_caches(directory);
  } else {
    const std::string user = user_cache_directory();
    const EntriesOfData own =
        entries_of(directory, user.empty() ? "" : user + "/index", data_identity(config));
    if (!std::filesystem::exists(config.data.path))
      throw Error("no such file or folder", {.file = config.data.path},
                  "brim cache gc removes the entries of images that are gone");
    if (own.notes.empty())
      throw Error("no cache of these images is noted there", {.file = directory},
                  "name the folder with loader.cache_dir; brim cache gc removes what nobody uses");
    bytes = collect_garbage(
                directory, [&](const CacheKey& key) { return !own.keys.contains(key); },
                GarbageMode::Remove)
                .freed_bytes;
    forget(own.notes);
  }
  program.console.print(fmt::format("{} freed in {}", format_bytes(bytes), directory));
  if (as_json) program.console.json(json({{"freed_bytes", bytes}}).dump(2));
}

}  // namespace

void add_cache_command(CLI::App& app, Program& program) {
  CLI::App* cache = app.add_subcommand("cache", "Fills, checks, shows and removes image caches");
  cache->require_subcommand(1);
  cache->footer("Example: brim cache build --data data.yaml --img 640 --cache lmdb");
  struct State {
    std::unique_ptr<ConfigOptions> build, verify, stats, gc, rm;
    std::int64_t older = 0;
    bool dry_run = false;
    std::string split = "train";
    bool json = false;
  };
  auto state = std::make_shared<State>();
  const auto add = [&](const char* name, const char* help, const char* example,
                       std::unique_ptr<ConfigOptions>& options) {
    CLI::App* command = cache->add_subcommand(name, help);
    command->footer(std::string("Example: brim cache ") + example);
    options = std::make_unique<ConfigOptions>(*command);
    command->add_flag("--json", state->json, "print JSON");
    return command;
  };
  CLI::App* build = add("build", "Decodes a data set into a disk or LMDB cache",
                        "build --data data.yaml --img 640 --cache lmdb", state->build);
  build->add_option("--split", state->split, "train, val or test");
  build->callback([&program, state] {
    catch_stop_signals();
    program.console.set_quiet(state->json);
    build_cache(program, state->build->resolve(), parse_split(state->split), state->json);
  });
  add("verify", "Reads every entry back and checks its sum", "verify loader.cache_dir=/mnt/cache",
      state->verify)
      ->callback([&program, state] {
        program.console.set_quiet(state->json);
        verify_caches(program, state->verify->resolve(), state->json);
      });
  add("stats", "Shows what the caches hold", "stats --json", state->stats)
      ->callback([&program, state] {
        program.console.set_quiet(state->json);
        show_caches(program, state->stats->resolve(), state->json);
      });
  CLI::App* gc = add("gc", "Removes entries of absent or changed images and what kills left behind",
                     "gc --older 30 --dry-run", state->gc);
  gc->add_option("--older", state->older, "also what no run has used for so many days")
      ->check(CLI::Range(1, 1'000'000'000));
  gc->add_flag("--dry-run", state->dry_run, "only say what would be removed");
  gc->callback([&program, state] {
    program.console.set_quiet(state->json);
    collect(program, state->gc->resolve(), state->older,
            state->dry_run ? GarbageMode::DryRun : GarbageMode::Remove, state->json);
  });
  add("rm", "Removes the entries of one data set, or without --data all caches of the folder",
      "rm --data data.yaml", state->rm)
      ->callback([&program, state] {
        program.console.set_quiet(state->json);
        remove(program, state->rm->resolve(), state->json);
      });
}

}  // namespace brim::cli
