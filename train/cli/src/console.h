#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brim::cli {

/// What a person sees. Results and progress go to standard output, warnings to standard error.
/// On a terminal the progress line is redrawn in place, at most ten times a second; elsewhere it is
/// printed as plain lines, at most one every ten seconds.
class Console {
 public:
  Console();
  bool interactive() const { return interactive_; }
  /// Silences everything but warnings and json() (for --json).
  void set_quiet(bool quiet) { quiet_ = quiet; }

  void print(const std::string& text);
  void warn(const std::string& text);
  /// Whether progress() would show a line now: those that cost something are made only then.
  bool progress_due() const;
  /// Replaces the progress line; `final` keeps it and moves on.
  void progress(const std::string& text, bool final = false);
  /// One JSON document on standard output.
  void json(const std::string& document);

 private:
  void clear_progress();
  bool interactive_ = false;
  bool quiet_ = false;
  std::size_t drawn_ = 0;
  std::int64_t last_progress_ns_ = 0;
};

/// Rows of cells as aligned columns; the first row is the heading. Numbers align right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);
/// "1:05:09", "3:07", "12 s".
std::string format_duration(double seconds);

}  // namespace brim::cli
