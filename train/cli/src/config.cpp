#include "config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>

namespace brim::cli {
namespace {

std::string show(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + separator.size();
  }
}

constexpr const char* kAcceptedHint = "'brim inspect keys' lists what every key accepts";

double parse_number(const std::string& text, const Where& where, const std::string& expected) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value)) {
    throw Error("expected " + expected + ", found '" + text + "'", where, kAcceptedHint);
  }
  return value;
}

void check_range(double value, const std::string& accepts, const Where& where) {
  if (accepts.empty()) return;
  const auto bounds = split(accepts, "..");
  const double low = std::stod(bounds.at(0));
  const double high =
      bounds.at(1).empty() ? std::numeric_limits<double>::infinity() : std::stod(bounds.at(1));
  if (value < low || value > high) {
    throw Error("expected a number in " + accepts + ", found " + show(value), where, kAcceptedHint);
  }
}

void assign_bool(bool& field, const std::string& text, const Where& where) {
  if (text == "true" || text == "yes" || text == "on" || text == "1") {
    field = true;
  } else if (text == "false" || text == "no" || text == "off" || text == "0") {
    field = false;
  } else {
    throw Error("expected true or false, found '" + text + "'", where, kAcceptedHint);
  }
}

std::string in_small_letters(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void assign_text(std::string& field, const std::string& text, const std::string& accepts,
                 const Where& where) {
  if (!accepts.empty()) {
    const auto choices = split(accepts, "|");
    const auto found = std::find(choices.begin(), choices.end(), in_small_letters(text));
    if (found == choices.end()) {
      const std::string near = nearest(text, choices);
      throw Error("expected one of " + accepts + ", found '" + text + "'", where,
                  near.empty() ? kAcceptedHint : "did you mean '" + near + "'?");
    }
    field = *found;
    return;
  }
  field = text;
}

std::string yaml_value(const Field& field) {
  const std::string text = value_text(field);
  if (!std::holds_alternative<std::string*>(field)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

[[noreturn]] void throw_unknown(const std::vector<Setting>& settings, const std::string& key,
                                const Where& where) {
  std::vector<std::string> keys;
  std::string same_leaf;
  const std::string leaf = key.substr(key.find('.') + 1);
  for (const Setting& setting : settings) {
    keys.push_back(setting.key);
    if (setting.key.substr(setting.key.find('.') + 1) == leaf) same_leaf = setting.key;
  }
  const std::string near = same_leaf.empty() ? nearest(key, keys) : same_leaf;
  throw Error("unknown key '" + key + "'", where,
              near.empty() ? "configs/README.md lists every key"
                           : "the nearest known key is '" + near + "'");
}

}  // namespace

std::string value_text(const Field& field) {
  if (auto* const* number = std::get_if<std::int64_t*>(&field)) return std::to_string(**number);
  if (auto* const* real = std::get_if<double*>(&field)) return show(**real);
  if (auto* const* flag = std::get_if<bool*>(&field)) return **flag ? "true" : "false";
  return *std::get<std::string*>(field);
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j < row.size(); ++j) {
        const std::size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

void set_value(Config& config, const std::string& key, const std::string& text,
               const Where& where) {
  const auto settings = settings_of(config);
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const Setting& setting) { return setting.key == key; });
  if (found == settings.end()) throw_unknown(settings, key, where);
  Where at = where;
  if (at.key.empty()) at.key = key;
  if (auto* const* number = std::get_if<std::int64_t*>(&found->field)) {
    const double value = parse_number(text, at, "a whole number");
    if (value != std::floor(value) || std::abs(value) > 9e15) {
      throw Error("expected a whole number, found '" + text + "'", at, kAcceptedHint);
    }
    check_range(value, found->accepts, at);
    **number = static_cast<std::int64_t>(value);
  } else if (auto* const* real = std::get_if<double*>(&found->field)) {
    const double value = parse_number(text, at, "a number");
    check_range(value, found->accepts, at);
    **real = value;
  } else if (auto* const* flag = std::get_if<bool*>(&found->field)) {
    assign_bool(**flag, text, at);
  } else {
    assign_text(*std::get<std::string*>(found->field), text, found->accepts, at);
  }
}

std::string to_yaml(const Config& config) {
  Config copy = config;
  std::ostringstream out;
  std::string section;
  for (const Setting& setting : settings_of(copy)) {
    const std::size_t dot = setting.key.find('.');
    if (setting.key.substr(0, dot) != section) {
      section = setting.key.substr(0, dot);
      out << section << ":\n";
    }
    out << "  " << setting.key.substr(dot + 1) << ": " << yaml_value(setting.field) << "\n";
  }
  return out.str();
}

std::string key_table() {
  Config defaults;
  std::ostringstream out;
  out << "| key | default | accepts | meaning |\n|---|---|---|---|\n";
  for (const Setting& setting : settings_of(defaults)) {
    std::string accepts = setting.accepts;
    for (std::size_t at = 0; (at = accepts.find('|', at)) != std::string::npos; at += 2) {
      accepts.insert(at, "\\");
    }
    out << "| `" << setting.key << "` | " << value_text(setting.field) << " | " << accepts << " | "
        << setting.help << " |\n";
  }
  return out.str();
}

}  // namespace brim::cli
