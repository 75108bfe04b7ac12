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
  explicit ConfigOptions(CLI::App& app);
  ConfigOptions(const ConfigOptions&) = delete;
  ConfigOptions& operator=(const ConfigOptions&) = delete;

  /// Defaults, then `base` files, then flags, then overrides. Throws Error.
  Config resolve() const { return resolve(Config{}); }
  Config resolve(Config base) const;
  /// As if `text` (key=value) stood behind the other overrides.
  void add_override(const std::string& text) { overrides_.push_back(text); }

 private:
  void add_value(CLI::App& app, const std::string& flags, const std::string& key);
  void add_switch(CLI::App& app, const std::string& flag, const std::string& key, bool value);

  struct Given {
    std::string key, text, flag;
  };
  std::vector<Given> given_;
  std::vector<std::string> overrides_;
  std::string experiment_, hyp_, project_, name_;
  bool exist_ok_ = false;
};

}  // namespace brim::cli
