#include "launcher.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "brim/cache/error.h"
#include "program.h"

namespace brim::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::milliseconds(20);

struct Rank {
  int number = 0;
  pid_t process = -1;
  bool running = false;
};

void set(const char* name, const std::string& value) {
  setenv(name, value.c_str(), 1);
}

/// In the child: never returns.
[[noreturn]] void become_rank(const LaunchPlan& plan, int local, pid_t launcher) {
  setpgid(0, 0);  // ^C reaches the launcher alone, which passes it on once
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(1);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  set("RANK", std::to_string(plan.node * plan.processes + local));
  set("WORLD_SIZE", std::to_string(plan.nodes * plan.processes));
  set("LOCAL_RANK", std::to_string(local));
  set("LOCAL_WORLD_SIZE", std::to_string(plan.processes));
  set("MASTER_ADDR", plan.address);
  set("MASTER_PORT", std::to_string(plan.port));
  std::vector<std::string> words{plan.executable};
  words.insert(words.end(), plan.arguments.begin(), plan.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  std::fprintf(stderr, "error: cannot start %s: %s\n", argv[0], std::strerror(errno));
  _exit(127);
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("was ended by signal {} ({})", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
  return fmt::format("ended with code {}", WEXITSTATUS(status));
}

class Launch {
 public:
  explicit Launch(const LaunchPlan& plan) : plan_(plan) {}

  int run() {
    const pid_t self = getpid();
    for (int local = 0; local < plan_.processes; ++local) {
      const pid_t child = fork();
      if (child < 0) {
        signal_all(SIGKILL);
        throw Error(std::string("cannot start a process: ") + std::strerror(errno));
      }
      if (child == 0) become_rank(plan_, local, self);
      ranks_.push_back({plan_.node * plan_.processes + local, child, true});
    }
    while (running()) {
      watch();
      pass_signals_on();
      end_the_rest();
      std::this_thread::sleep_for(kPoll);
    }
    return code_;
  }

 private:
  bool running() const {
    for (const Rank& rank : ranks_)
      if (rank.running) return true;
    return false;
  }

  void signal_all(int signal) {
    for (const Rank& rank : ranks_)
      if (rank.running) kill(rank.process, signal);
  }

  void watch() {
    for (Rank& rank : ranks_) {
      int status = 0;
      if (!rank.running || waitpid(rank.process, &status, WNOHANG) != rank.process) continue;
      rank.running = false;
      const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (code == 0 || code_ != 0) continue;
      code_ = code;
      if (passed_on_) continue;  // asked to
      failed_at_ = Clock::now();
      std::fprintf(stderr, "brim launch: rank %d %s; the other ranks end too\n", rank.number,
                   how_it_ended(status).c_str());
    }
  }

  void pass_signals_on() {
    if (passed_on_ || !stop_requested) return;
    passed_on_ = true;
    signal_all(SIGTERM);
  }

  /// Once one has failed: the others are given time, asked, and made to.
  void end_the_rest() {
    if (failed_at_ == Clock::time_point()) return;
    const double seconds = std::chrono::duration<double>(Clock::now() - failed_at_).count();
    if (stage_ == 0 && seconds > plan_.grace_seconds) {
      signal_all(SIGTERM);
      stage_ = 1;
    } else if (stage_ == 1 && seconds > 2 * plan_.grace_seconds) {
      signal_all(SIGKILL);
      stage_ = 2;
    }
  }

  const LaunchPlan& plan_;
  std::vector<Rank> ranks_;
  int code_ = 0;
  bool passed_on_ = false;
  int stage_ = 0;
  Clock::time_point failed_at_{};
};

}  // namespace

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool found = socket >= 0 &&
                     bind(socket, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (socket >= 0) close(socket);
  if (!found) throw Error("no free TCP port was found", {.key = "--port"});
  return ntohs(address.sin_port);
}

int launch(const LaunchPlan& plan) {
  LaunchPlan decided = plan;
  if (decided.port == 0) decided.port = free_port();
  return Launch(decided).run();
}

}  // namespace brim::cli
