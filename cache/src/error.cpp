#include "brim/cache/error.h"

#include <utility>

namespace brim {
namespace {

std::string compose(const std::string& message, const Where& where, const std::string& hint) {
  std::string text;
  if (!where.file.empty()) {
    text += where.file;
    if (where.line > 0) text += ":" + std::to_string(where.line);
    text += ": ";
  }
  if (!where.key.empty()) text += where.key + ": ";
  text += message;
  if (!hint.empty()) text += "\nhint: " + hint;
  return text;
}

}  // namespace

Error::Error(std::string message, Where where, std::string hint)
    : std::runtime_error(compose(message, where, hint)),
      message_(std::move(message)),
      where_(std::move(where)),
      hint_(std::move(hint)) {}

}  // namespace brim
