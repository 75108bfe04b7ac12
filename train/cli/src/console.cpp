#include "console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace brim::cli {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::size_t terminal_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 100;
}

/// Columns that `text` takes: bytes that begin a UTF-8 character.
std::size_t columns(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

bool looks_numeric(const std::string& cell) {
  return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell[0])) != 0 ||
                           (cell.size() > 1 && cell[0] == '-'));
}

}  // namespace

Console::Console() : interactive_(isatty(STDOUT_FILENO) != 0) {}

void Console::clear_progress() {
  if (drawn_ == 0) return;
  std::fputs("\r\033[K", stdout);
  drawn_ = 0;
}

void Console::print(const std::string& text) {
  if (quiet_) return;
  clear_progress();
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void Console::warn(const std::string& text) {
  clear_progress();
  std::fflush(stdout);
  std::fputs(("warning: " + text + "\n").c_str(), stderr);
}

bool Console::progress_due() const {
  constexpr std::int64_t kTerminalInterval = 100'000'000, kPlainInterval = 10'000'000'000;
  return !quiet_ &&
         (last_progress_ns_ == 0 ||
          now_ns() - last_progress_ns_ >= (interactive_ ? kTerminalInterval : kPlainInterval));
}

void Console::progress(const std::string& text, bool final) {
  if (quiet_ || (!final && !progress_due())) return;
  last_progress_ns_ = final ? 0 : now_ns();
  if (!interactive_) {
    std::fputs((text + "\n").c_str(), stdout);
  } else {
    clear_progress();
    const std::size_t width = terminal_width() - 1;
    std::fputs((final ? text + "\n" : text.substr(0, width)).c_str(), stdout);
    drawn_ = final ? 0 : text.size();
  }
  std::fflush(stdout);
}

void Console::json(const std::string& document) {
  clear_progress();
  std::fputs((document + "\n").c_str(), stdout);
  std::fflush(stdout);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      const std::string& cell = rows[r][i];
      const std::string pad(widths[i] - columns(cell), ' ');
      const bool right =
          i > 0 && (r == 0 ? rows.size() > 1 && i < rows[1].size() && looks_numeric(rows[1][i])
                           : looks_numeric(cell));
      line += (i == 0 ? "" : "  ") + (right ? pad + cell : cell + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + (r + 1 < rows.size() ? "\n" : "");
  }
  return text;
}

std::string format_duration(double seconds) {
  const auto total = static_cast<std::int64_t>(std::max(0.0, seconds) + 0.5);
  char text[48];
  if (total < 60) {
    std::snprintf(text, sizeof text, "%d s", static_cast<int>(total));
  } else if (total < 3600) {
    std::snprintf(text, sizeof text, "%d:%02d", static_cast<int>(total / 60),
                  static_cast<int>(total % 60));
  } else {
    std::snprintf(text, sizeof text, "%lld:%02d:%02d", static_cast<long long>(total / 3600),
                  static_cast<int>(total / 60 % 60), static_cast<int>(total % 60));
  }
  return text;
}

}  // namespace brim::cli
