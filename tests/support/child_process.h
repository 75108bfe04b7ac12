#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>

namespace brim::test {

/// When a child that is waited for gets a signal or is killed.
struct WaitOptions {
  double timeout_seconds = 300;  ///< then it is killed
  int signal = 0;  ///< sent once `signal_after_seconds` are over and `signal_when` holds
  double signal_after_seconds = 0;
  std::function<bool()> signal_when{};
  std::int64_t* peak_resident = nullptr;  ///< gets the child's, in bytes
};

/// Forks a child that runs `body` and ends with its result; 99 when it throws.
pid_t start_child(const std::function<int()>& body);
/// Waits for `child` and gives its exit code, or 128 + the signal that ended it.
int wait_code(pid_t child, const WaitOptions& options = {});
/// The same as "exit 0", "signal 9".
std::string wait_child(pid_t child);
std::string in_child(const std::function<int()>& body);

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
