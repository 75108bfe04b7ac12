#include "support/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "support/test_data.h"

namespace brim::test {

ProcessResult run_process(const std::vector<std::string>& words, const ProcessOptions& options) {
  const TempDir folder;
  const std::string output = folder.file("stdout"), error = folder.file("stderr");
  std::vector<std::string> copies = words;
  std::vector<char*> argv;
  for (std::string& word : copies) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    if (freopen(output.c_str(), "w", stdout) == nullptr) _exit(126);
    if (freopen(error.c_str(), "w", stderr) == nullptr) _exit(126);
    if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  bool signalled = options.signal == 0;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (!signalled && elapsed() > options.signal_after_seconds) {
      kill(child, options.signal);
      signalled = true;
    }
    if (elapsed() > options.timeout_seconds) kill(child, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
          .output = read_file(output),
          .error = read_file(error)};
}

ProcessResult run_brim(std::vector<std::string> arguments, const ProcessOptions& options) {
  arguments.insert(arguments.begin(), BRIM_BINARY_DIR "/train/cli/brim");
  return run_process(arguments, options);
}

}  // namespace brim::test
