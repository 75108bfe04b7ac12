#include "program.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <opencv2/core/utils/logger.hpp>

#include "brim/cache/error.h"
#include "brim/cache/stores.h"
#include "brim/train/compat.h"
#include "config.h"
#include "tuning.h"

namespace brim::cli {

std::atomic<bool> stop_requested{false};

namespace {

void on_signal(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

void prepare_process() {
  std::signal(SIGPIPE, SIG_DFL);
  // Many input sizes would otherwise fill oneDNN's caches of compiled kernels (gigabytes).
  setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "16", 0);
  setenv("LRU_CACHE_CAPACITY", "16", 0);
  // A bad image is reported by brim, with its path; the codecs' own lines add nothing.
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
}

std::string text_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

/// What is wrong with a word that is no command, and the command it was probably meant to be.
std::string unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  const std::string near = nearest(word, names);
  return "no command '" + word + "'" + (near.empty() ? "" : "; did you mean '" + near + "'?");
}

/// Faults of the command line read like all others; --help and --version print and succeed.
int report(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);
  std::string command = "brim", message = error.what();
  const auto chosen = app.get_subcommands();
  const auto words = app.remaining();
  if (!chosen.empty()) {
    command += " " + chosen.front()->get_name();
  } else if (!words.empty() && !words.front().starts_with("-")) {
    message = unknown_command(app, words.front());
  }
  std::fprintf(stderr, "error: %s\nhint: '%s --help' lists what there is, with an example\n",
               message.c_str(), command.c_str());
  return 2;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::string user_cache_directory() {
  return default_cache_directory(text_of("XDG_CACHE_HOME"), text_of("HOME"));
}

int run_program(int argc, char** argv) {
  prepare_process();
  Program program;
  std::error_code ignored;
  program.executable = std::filesystem::read_symlink("/proc/self/exe", ignored).string();

  CLI::App app{
      "brim trains detectors and classifiers: fill the device to the brim; never spill, never "
      "starve.",
      "brim"};
  app.set_version_flag("--version", std::string("brim ") + BRIM_VERSION);
  app.require_subcommand(1);
  add_train_command(app, program);
  add_val_command(app, program);
  add_predict_command(app, program);
  add_tune_command(app, program);
  add_cache_command(app, program);
  add_data_command(app, program);
  add_inspect_command(app, program);
  add_bench_command(app, program);
  add_launch_command(app, program);
  add_probe_command(app, program);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report(app, error);
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr,
                 "error: out of memory\nhint: a larger --memory, or a smaller --batch or --img\n");
    return 2;
  } catch (const std::exception& error) {
    if (is_out_of_memory(error)) {
      const std::string text = error.what();
      std::fprintf(stderr, "error: %s\nhint: a larger --memory, or a smaller --batch or --img\n",
                   text.substr(0, text.find('\n')).c_str());
      return 2;
    }
    std::fprintf(stderr, "brim: internal error: %s\n", error.what());
    return 1;
  }
  return program.exit_code;
}

}  // namespace brim::cli
