#pragma once

#include <functional>
#include <string>

#include "brim/cache/error.h"

namespace brim::test {

/// `what()` of the Error that `run` throws; empty where it throws none.
inline std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace brim::test
