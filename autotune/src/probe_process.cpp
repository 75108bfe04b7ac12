#include "brim/autotune/probe_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "brim/cache/error.h"

extern char** environ;

namespace brim::autotune {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Everything the child writes until it closes the pipe or the time is over.
std::string read_until(int fd, Clock::time_point start, double timeout_seconds, bool& timed_out) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const double left = timeout_seconds - seconds_since(start);
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = left > 0 ? poll(&waiting, 1, static_cast<int>(left * 1000) + 1) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      timed_out = true;
      return text;
    }
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

Measurement run_probe_process(const ProbeProcessOptions& options, std::int64_t batch) {
  const auto start = Clock::now();
  Measurement died;
  died.batch = batch;
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
    died.detail = std::string("cannot make a pipe: ") + std::strerror(errno);
    return died;
  }
  std::vector<std::string> words{options.executable};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  words.push_back(std::to_string(batch));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  const int failed =
      posix_spawn(&child, options.executable.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  if (failed != 0) {
    close(pipe_ends[0]);
    died.detail = "cannot start " + options.executable + ": " + std::strerror(failed);
    return died;
  }
  bool timed_out = false;
  const std::string text = read_until(pipe_ends[0], start, options.timeout_seconds, timed_out);
  close(pipe_ends[0]);
  if (timed_out) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  died.wall_seconds = seconds_since(start);
  if (timed_out) {
    died.detail =
        "took longer than " + std::to_string(static_cast<int>(options.timeout_seconds)) + " s";
    return died;
  }
  if (WIFSIGNALED(status)) {
    died.detail = std::string("ended by signal ") + strsignal(WTERMSIG(status));
    return died;
  }
  try {
    Measurement measurement = measurement_from_json(last_line(text));
    measurement.wall_seconds = died.wall_seconds;
    return measurement;
  } catch (const Error& error) {
    died.detail = "exit code " + std::to_string(WEXITSTATUS(status)) + ", " + error.message();
    return died;
  }
}

void enter_probe_process(std::int64_t data_limit_bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
    const ssize_t ignored = write(fd, "1000", 4);
    static_cast<void>(ignored);  // a hint to the kernel; without the right to give it, go on
    close(fd);
  }
  if (data_limit_bytes > 0) {
    rlimit limit{};
    getrlimit(RLIMIT_DATA, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, static_cast<rlim_t>(data_limit_bytes));
    setrlimit(RLIMIT_DATA, &limit);
  }
}

std::string to_json(const Measurement& m) {
  const char* outcome = m.outcome == Outcome::Fits          ? "fits"
                        : m.outcome == Outcome::OutOfMemory ? "out of memory"
                                                            : "died";
  return nlohmann::json({{"batch", m.batch},
                         {"outcome", outcome},
                         {"tensor_peak_bytes", m.tensor_peak_bytes},
                         {"reserved_peak_bytes", m.reserved_peak_bytes},
                         {"resident_peak_bytes", m.resident_peak_bytes},
                         {"seconds_per_step", m.seconds_per_step},
                         {"wall_seconds", m.wall_seconds},
                         {"detail", m.detail}})
      .dump();
}

Measurement measurement_from_json(const std::string& line) {
  const auto document = nlohmann::json::parse(line, nullptr, false);
  try {
    Measurement m;
    m.batch = document.at("batch");
    const std::string outcome = document.at("outcome");
    m.outcome = outcome == "fits"            ? Outcome::Fits
                : outcome == "out of memory" ? Outcome::OutOfMemory
                                             : Outcome::Died;
    m.tensor_peak_bytes = document.at("tensor_peak_bytes");
    m.reserved_peak_bytes = document.at("reserved_peak_bytes");
    m.resident_peak_bytes = document.at("resident_peak_bytes");
    m.seconds_per_step = document.at("seconds_per_step");
    m.wall_seconds = document.at("wall_seconds");
    m.detail = document.at("detail");
    return m;
  } catch (const nlohmann::json::exception&) {
    throw Error("no measurement in '" + line.substr(0, 200) + "'");
  }
}

}  // namespace brim::autotune
