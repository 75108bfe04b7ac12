#pragma once

// What brim uses of LibTorch: tensors, autograd, modules and their serialisation. A third of the
// compile time of <torch/torch.h>; files that need a layer include its header themselves.
#include <torch/autograd.h>
#include <torch/cuda.h>
#include <torch/nn/module.h>
#include <torch/serialize.h>
#include <torch/types.h>
#include <torch/utils.h>
