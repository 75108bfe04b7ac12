#include "support/child_process.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <thread>

namespace brim::test {

pid_t start_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child != 0) return child;
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(code);
}

int wait_code(pid_t child, const WaitOptions& options) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  bool signalled = options.signal == 0;
  int status = 0;
  rusage usage{};
  while (::wait4(child, &status, WNOHANG, &usage) == 0) {
    if (!signalled && elapsed() > options.signal_after_seconds &&
        (!options.signal_when || options.signal_when())) {
      ::kill(child, options.signal);
      signalled = true;
    }
    if (elapsed() > options.timeout_seconds) ::kill(child, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (options.peak_resident != nullptr) *options.peak_resident = usage.ru_maxrss * 1024;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string wait_child(pid_t child) {
  const int code = wait_code(child);
  return code > 128 ? "signal " + std::to_string(code - 128) : "exit " + std::to_string(code);
}

std::string in_child(const std::function<int()>& body) {
  return wait_child(start_child(body));
}

}  // namespace brim::test
