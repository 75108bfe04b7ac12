#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "config.h"

namespace brim::cli {

/// The command-line side of a Config: YOLO's flags, `--config`, `--hyp` and `key=value` overrides,
/// applied in that order over the defaults, so that the most specific wins.
///
///   ConfigOptions options(*app);        // declares the flags
///   Config config = options.resolve();  // after parsing
class ConfigOptions {
 public:
  /// `defaults`: of this command, shown in its help.
  explicit ConfigOptions(CLI::App& app, Config defaults = {});
  ConfigOptions(const ConfigOptions&) = delete;
  ConfigOptions& operator=(const ConfigOptions&) = delete;

  /// Defaults, then `base` files, then flags, then overrides. Throws Error.
  Config resolve() const { return resolve(defaults_); }
  /// The same over `base` instead of the defaults.
  Config resolve(Config base) const;
  /// As if `text` (key=value) stood behind the other overrides: an option of several values has
  /// taken it for one.
  void add_override(const std::string& text) { taken_.push_back(text); }
  /// Declares another flag that sets `key`; its help shows that key's default.
  void add_value(CLI::App& app, const std::string& flags, const std::string& key);
  /// Whether flags or overrides say what `key` is.
  bool has(const std::string& key) const;
  /// What is to be told of flags that were given and change nothing.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void add_switch(CLI::App& app, const std::string& flag, const std::string& key, bool value);
  void add_cache(CLI::App& app);
  void add_freeze(CLI::App& app);
  void add_habits(CLI::App& app);
  std::vector<std::string> all_overrides() const;

  struct Given {
    std::string key, text, flag;
  };
  std::string command_;
  Config defaults_;
  std::vector<Given> given_;
  std::vector<std::string> overrides_, taken_, notes_;
  std::string experiment_, hyp_, project_, name_;
  bool half_ = false;
};

/// Whether a word is section.key=value and no file.
bool is_override(const std::string& word);

}  // namespace brim::cli
