#pragma once

#include <gtest/gtest.h>

#include "brim/cache/error.h"
#include "brim/dataloader/torch/device.h"

namespace brim::test {

/// Tests that need a GPU; elsewhere they are skipped with what is missing.
class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    try {
      require_device(torch::kCUDA);
    } catch (const Error& error) {
      GTEST_SKIP() << "needs a GPU: " << error.message();
    }
    device = with_index(torch::kCUDA);
  }
  void TearDown() override {
    if (!device.is_cuda()) return;
    set_device_limit(device, 0);
    empty_device_cache(device);
  }

  torch::Device device = torch::kCPU;
};

}  // namespace brim::test
