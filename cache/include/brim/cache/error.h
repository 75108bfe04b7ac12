#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace brim {

/// Where in the user's input something is wrong; empty parts are left out of the message.
struct Where {
  std::string file{};
  std::int64_t line = 0;  ///< 1-based; 0: no line
  std::string key{};      ///< YAML key, option or field name
};

/// A fault the user can mend: bad input, a full disk, an impossible setting. The program prints
/// `what()` and ends with exit code 2. Anything else that escapes is a defect of brim.
///
///   throw Error("expected 5 numbers, found 4", {.file = path, .line = 12},
///               "a row is: class cx cy width height");
///   // labels/a.txt:12: expected 5 numbers, found 4
///   // hint: a row is: class cx cy width height
class Error : public std::runtime_error {
 public:
  explicit Error(std::string message, Where where = {}, std::string hint = {});

  const std::string& message() const { return message_; }
  const Where& where() const { return where_; }
  const std::string& hint() const { return hint_; }

 private:
  std::string message_;
  Where where_;
  std::string hint_;
};

}  // namespace brim
