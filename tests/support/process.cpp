#include "support/process.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "support/test_data.h"

namespace brim::test {

ProcessResult run_process(const std::vector<std::string>& words, const ProcessOptions& options) {
  const TempDir folder;
  const std::string output = folder.file("stdout"), error = folder.file("stderr");
  std::vector<std::string> copies = words;
  std::vector<char*> argv;
  for (std::string& word : copies) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = start_child([&] {
    if (freopen(output.c_str(), "w", stdout) == nullptr) return 126;
    if (freopen(error.c_str(), "w", stderr) == nullptr) return 126;
    if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) return 126;
    if (options.before) options.before();
    execvp(argv[0], argv.data());
    return 127;
  });
  std::int64_t peak = 0;
  WaitOptions wait = options.wait;
  wait.peak_resident = &peak;
  const int code = wait_code(child, wait);
  return {.exit_code = code,
          .output = read_file(output),
          .error = read_file(error),
          .peak_resident = peak};
}

ProcessResult run_brim(std::vector<std::string> arguments, const ProcessOptions& options) {
  arguments.insert(arguments.begin(), BRIM_BINARY_DIR "/train/cli/brim");
  return run_process(arguments, options);
}

std::function<void()> as_rank(int rank, int size, int port) {
  return [=] {
    const auto set = [](const char* name, const std::string& value) {
      ::setenv(name, value.c_str(), 1);
    };
    for (const char* name : {"RANK", "LOCAL_RANK"}) set(name, std::to_string(rank));
    for (const char* name : {"WORLD_SIZE", "LOCAL_WORLD_SIZE"}) set(name, std::to_string(size));
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
  };
}

std::function<void()> as_rank_of_machines(int rank, int size, int local_size, int port) {
  return [=] {
    as_rank(rank, size, port)();
    ::setenv("LOCAL_RANK", std::to_string(rank % local_size).c_str(), 1);
    ::setenv("LOCAL_WORLD_SIZE", std::to_string(local_size).c_str(), 1);
  };
}

}  // namespace brim::test
