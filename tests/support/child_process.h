#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>

namespace brim::test {

/// Forks a child that runs `body` and ends with its result; 99 when it throws.
inline pid_t start_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(code);
}

/// "exit 0", "signal 9": how `child` ended.
inline std::string wait_child(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status))
                           : "signal " + std::to_string(WTERMSIG(status));
}

inline std::string in_child(const std::function<int()>& body) {
  return wait_child(start_child(body));
}

/// A folder of its own in shared memory where there is one (syncing costs nothing there), else
/// among the temporary files.
class FastDir {
 public:
  FastDir() {
    namespace fs = std::filesystem;
    std::string name =
        (::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path()) /
        "brim-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~FastDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FastDir(const FastDir&) = delete;
  FastDir& operator=(const FastDir&) = delete;
  std::string path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace brim::test
