#include "brim/autotune/probe_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "brim/cache/process_memory.h"

extern char** environ;

namespace brim::autotune {
namespace {

using Clock = std::chrono::steady_clock;

/// For machine code that libraries make and the stacks of their threads: oneDNN dies where it gets
/// none, so the shortage must show in the pool, which throws.
constexpr std::int64_t kOutsideThePool = std::int64_t{192} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

ProbeProcess::ProbeProcess(ProbeProcessOptions options) : options_(std::move(options)) {}

ProbeProcess::~ProbeProcess() {
  if (child_ > 0) kill(static_cast<pid_t>(child_), SIGKILL);
  end();
}

void ProbeProcess::start() {
  if (child_ > 0) return;
  refused_.clear();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    refused_ = std::string("cannot make a socket: ") + std::strerror(errno);
    return;
  }
  std::vector<std::string> words{options_.executable};
  words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  const int failed =
      posix_spawn(&child, options_.executable.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (failed != 0) {
    close(ends[0]);
    refused_ = "cannot start " + options_.executable + ": " + std::strerror(failed);
    return;
  }
  child_ = child;
  channel_ = ends[0];
}

std::string ProbeProcess::end() {
  if (child_ <= 0) return "";
  close(channel_);
  int status = 0;
  while (waitpid(static_cast<pid_t>(child_), &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
  channel_ = -1;
  if (WIFSIGNALED(status)) return std::string("ended by signal ") + strsignal(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

/// Up to the end of a line; without one where the child ended or its time is over.
std::string ProbeProcess::read_line(double until_seconds) {
  const auto start = Clock::now();
  std::string text;
  char buffer[1 << 16];
  while (text.empty() || text.back() != '\n') {
    const double left = until_seconds - seconds_since(start);
    pollfd waiting{.fd = channel_, .events = POLLIN, .revents = 0};
    const int ready = left > 0 ? poll(&waiting, 1, static_cast<int>(left * 1000) + 1) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      kill(static_cast<pid_t>(child_), SIGKILL);
      return text;
    }
    const ssize_t got = read(channel_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

Measurement ProbeProcess::died(std::int64_t batch, std::string why) const {
  Measurement result;
  result.batch = batch;
  result.detail = std::move(why);
  return result;
}

Measurement ProbeProcess::measure(std::int64_t batch) {
  const auto begin = Clock::now();
  start();
  if (child_ <= 0) return died(batch, refused_);
  const std::string question = std::to_string(batch) + "\n";
  // A child that is gone shows in the reading.
  static_cast<void>(send(channel_, question.data(), question.size(), MSG_NOSIGNAL));
  const std::string line = read_line(options_.timeout_seconds);
  const double wall = seconds_since(begin);
  Measurement result;
  if (line.empty() || line.back() != '\n') {
    const std::string how = end();
    const bool late = wall >= options_.timeout_seconds;
    result =
        died(batch, late ? "took longer than " +
                               std::to_string(static_cast<int>(options_.timeout_seconds)) + " s"
                         : how);
  } else {
    try {
      result = measurement_from_json(line);
    } catch (const Error& error) {
      kill(static_cast<pid_t>(child_), SIGKILL);
      end();
      result = died(batch, error.message());
    }
  }
  result.wall_seconds = wall;
  return result;
}

int serve_probes(const std::function<Measurement(std::int64_t batch)>& measure) {
  const std::int64_t idle = read_memory_limits().own_resident;
  std::string text;
  char buffer[256];
  for (;;) {
    const std::size_t end = text.find('\n');
    if (end == std::string::npos) {
      const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return 0;
      text.append(buffer, static_cast<std::size_t>(got));
      continue;
    }
    std::int64_t batch = 0;
    const auto number = std::from_chars(text.data(), text.data() + end, batch);
    if (number.ptr != text.data() + end || batch < 1) return 2;
    text.erase(0, end + 1);
    Measurement found = measure(batch);
    found.idle_bytes = idle;
    const std::string line = to_json(found) + "\n";
    for (std::size_t at = 0; at < line.size();) {
      const ssize_t put = write(STDOUT_FILENO, line.data() + at, line.size() - at);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return 1;
      at += static_cast<std::size_t>(put);
    }
  }
}

void enter_probe_process(std::int64_t data_limit_bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
    const ssize_t ignored = write(fd, "1000", 4);
    static_cast<void>(ignored);  // a hint to the kernel; without the right to give it, go on
    close(fd);
  }
  if (data_limit_bytes <= 0) return;
  rlimit limit{};
  getrlimit(RLIMIT_DATA, &limit);
  const auto wanted =
      static_cast<rlim_t>(private_address_space() + kOutsideThePool + data_limit_bytes);
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  setrlimit(RLIMIT_DATA, &limit);
}

std::string to_json(const Measurement& m) {
  const char* outcome = m.outcome == Outcome::Fits          ? "fits"
                        : m.outcome == Outcome::OutOfMemory ? "out of memory"
                                                            : "died";
  nlohmann::json document{{"batch", m.batch},
                          {"outcome", outcome},
                          {"tensor_peak_bytes", m.tensor_peak_bytes},
                          {"reserved_peak_bytes", m.reserved_peak_bytes},
                          {"resident_peak_bytes", m.resident_peak_bytes},
                          {"idle_bytes", m.idle_bytes},
                          {"seconds_per_step", m.seconds_per_step},
                          {"optimizer_seconds", m.optimizer_seconds},
                          {"wall_seconds", m.wall_seconds},
                          {"byte_budget", m.byte_budget},
                          {"detail", m.detail}};
  if (!m.trace.empty()) document["trace"] = m.trace;
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
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
    m.idle_bytes = document.value("idle_bytes", std::int64_t{0});
    m.seconds_per_step = document.at("seconds_per_step");
    m.optimizer_seconds = document.at("optimizer_seconds");
    m.wall_seconds = document.at("wall_seconds");
    m.byte_budget = document.value("byte_budget", std::int64_t{0});
    m.detail = document.at("detail");
    if (document.contains("trace")) m.trace = document.at("trace").get<AllocationTrace>();
    return m;
  } catch (const nlohmann::json::exception&) {
    throw Error("no measurement in '" + line.substr(0, 200) + "'");
  }
}

}  // namespace brim::autotune
