#include "brim/train/weights.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "brim/train/network.h"
#include "brim/train/trainer.h"
#include "support/reference.h"
#include "support/tiny_training.h"

namespace brim::test {
namespace {

/// A Python 3 that can import `module`: the first of the path, else the system's own (another one
/// may stand before it). Empty: none.
std::string python_with(const std::string& module) {
  for (const std::string python : {"python3", "/usr/bin/python3"})
    if (std::system((python + " -c 'import " + module + "' >/dev/null 2>&1").c_str()) == 0)
      return python;
  return "";
}

/// Runs `script` with `arguments`; what it prints is shown when it fails.
void run_python(const std::string& python, const std::string& script,
                const std::string& arguments) {
  const TempDir dir;
  write_file(dir.file("script.py"), script);
  const std::string command = python + " -W ignore " + dir.file("script.py") + " " + arguments +
                              " >" + dir.file("out") + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(dir.file("out"));
}

#define BRIM_PYTHON_OR_SKIP(name, module)       \
  const std::string name = python_with(module); \
  if (name.empty()) GTEST_SKIP() << "no python3 has the module " << (module)

/// A value of each tensor that both sides can compute.
constexpr const char* kChecks = R"(
import sys
def check(state, names, sums):
    lines = [line.split() for line in open(sums)]
    assert list(state) == [line[0] for line in lines], 'names or order differ'
    for name, shape, total in lines:
        found = 'x'.join(str(n) for n in state[name].shape)
        assert found == shape.strip('-'), (name, found, shape)
        value = state[name].double().sum().item()
        assert abs(value - float(total)) <= 1e-6 * max(1, abs(value)), (name, value, total)
)";

void write_sums(const StateDict& state, const std::string& path) {
  std::string text;
  for (const auto& [name, tensor] : state) {
    std::string shape;
    for (const auto side : tensor.sizes())
      shape += (shape.empty() ? "" : "x") + std::to_string(side);
    std::ostringstream total;
    total.precision(17);
    total << tensor.to(torch::kDouble).sum().item<double>();
    text += name + " " + (shape.empty() ? "-" : shape) + " " + total.str() + "\n";
  }
  write_file(path, text);
}

TEST(ReferenceWeights, OfPythonsTorchSaveLoadWhole) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/yolov5n_nc3_state_dict.pt");
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  const TransferReport report = load_weights(*network, path);
  EXPECT_EQ(report.transferred_tensors, 349);
  EXPECT_DOUBLE_EQ(report.share(), 1.0);
  EXPECT_TRUE(report.missing.empty() && report.unused.empty() && report.other_shape.empty());
  const auto file = load_tensors(path);
  for (const auto& [name, tensor] : state_dict(*network))
    EXPECT_TRUE(tensor.equal(at(file, name))) << name;
  const auto other = make_network({.model = "yolov5n", .classes = 80});
  EXPECT_EQ(load_weights(*other, path).transferred_tensors, 343);
}

TEST(ReferenceWeights, AreReadByPythonsTorchLoad) {
  BRIM_PYTHON_OR_SKIP(python, "torch");
  const TempDir dir;
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  save_state_dict(*network, dir.file("w.pt"));
  write_sums(state_dict(*network), dir.file("sums"));
  run_python(python,
             std::string(kChecks) +
                 "import torch\ncheck(torch.load(sys.argv[1], weights_only=True), None, "
                 "sys.argv[2])\n",
             dir.file("w.pt") + " " + dir.file("sums"));
}

/// docs/training.md: torch.load('best.pt')['ema'] is a state_dict.
TEST(ReferenceWeights, OfATrainersCheckpointsAreReadByPythonsTorchLoad) {
  BRIM_PYTHON_OR_SKIP(python, "torch");
  const TempDir dir;
  const auto network = std::make_shared<TinyNetwork>();
  Trainer trainer(network, std::make_shared<TinyObjective>(),
                  {.epochs = 2, .batch_size = 4, .folder = dir.path().string()});
  const auto batches = tiny_batches(3, 4);
  trainer.fit(*make_batch_source(batches),
              [](Network&) { return EvaluationSummary{.fitness = 1}; });
  const TensorMap averages = load_checkpoint(dir.file("best.pt")).ema;
  write_sums({averages.begin(), averages.end()}, dir.file("best.sums"));
  const TensorMap raw = load_checkpoint(dir.file("last.pt")).model;
  write_sums({raw.begin(), raw.end()}, dir.file("last.sums"));
  run_python(python, std::string(kChecks) + R"(
import torch
for name, key in (('best', 'ema'), ('last', 'model')):
    saved = torch.load(f'{sys.argv[1]}/{name}.pt', weights_only=True)
    check(saved[key], None, f'{sys.argv[1]}/{name}.sums')
    assert set(saved['model']) == set(saved['ema']) and 'momentum.conv.weight' in saved['optimizer']
class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)
        self.linear = torch.nn.Linear(8, 4)
Tiny().load_state_dict(torch.load(f'{sys.argv[1]}/best.pt')['ema'])
)",
             dir.path().string());
  EXPECT_EQ(load_weights(*network, dir.file("best.pt")).share(), 1.0);
}

/// What Python's own modules give: an OrderedDict with the attribute _metadata.
TEST(ReferenceWeights, OfAnOrderedDictOfPythonLoadWhole) {
  BRIM_PYTHON_OR_SKIP(python, "torch");
  const TempDir dir;
  const auto from = make_network({.model = "resnet18", .classes = 5});
  save_state_dict(*from, dir.file("w.pt"));
  run_python(python, R"(
import collections, sys, torch
state = collections.OrderedDict(torch.load(sys.argv[1]))
state._metadata = collections.OrderedDict({'': {'version': 1}, 'bn1': {'version': 2}})
torch.save(state, sys.argv[2])
torch.save({'epoch': 1, 'model': state, 'optimizer': {'state': {}, 'param_groups': []}}, sys.argv[3],
           pickle_protocol=4)
)",
             dir.file("w.pt") + " " + dir.file("ordered.pt") + " " + dir.file("checkpoint.pt"));
  const auto expected = state_dict(*from);
  for (const char* file : {"ordered.pt", "checkpoint.pt"}) {
    const StateDict found = read_state_dict(dir.file(file));
    ASSERT_EQ(found.size(), expected.size()) << file;
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_TRUE(found[i].second.equal(expected[i].second)) << found[i].first;
    }
  }
}

TEST(ReferenceWeights, OfPythonInHalfPrecisionAndInsideACheckpointLoad) {
  BRIM_PYTHON_OR_SKIP(python, "torch");
  const TempDir dir;
  const auto from = make_network({.model = "yolov5n", .classes = 3});
  save_state_dict(*from, dir.file("w.pt"));
  run_python(python, R"(
import sys, torch
state = torch.load(sys.argv[1])
half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
torch.save({'epoch': 3, 'best_fitness': None, 'model': half}, sys.argv[2])
class Odd(torch.nn.Linear): pass
torch.save({'model': Odd(2, 2)}, sys.argv[3])
torch.save(Odd(2, 2).state_dict(), sys.argv[4], _use_new_zipfile_serialization=False)
)",
             dir.file("w.pt") + " " + dir.file("half.pt") + " " + dir.file("object.pt") + " " +
                 dir.file("old.pt"));
  const auto to = make_network({.model = "yolov5n", .classes = 3});
  EXPECT_DOUBLE_EQ(load_weights(*to, dir.file("half.pt")).share(), 1.0);
  const auto a = state_dict(*from);
  const auto b = state_dict(*to);
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(torch::allclose(a[i].second, b[i].second, 1e-3, 1e-4)) << a[i].first;
  try {
    read_state_dict(dir.file("object.pt"));
    FAIL();
  } catch (const std::exception& e) {
    EXPECT_NE(std::string(e.what()).find("holds a Python object (__main__.Odd)"), std::string::npos)
        << e.what();
  }
  EXPECT_THROW(read_state_dict(dir.file("old.pt")), std::exception);
}

/// Without PyTorch: the pickle is read by Python's own unpickler, and may refer to nothing but what
/// torch.load knows.
TEST(ReferenceWeights, AreAPickleOfPlainTensors) {
  BRIM_PYTHON_OR_SKIP(python, "pickle");
  const TempDir dir;
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  save_state_dict(*network, dir.file("w.pt"));
  write_sums(state_dict(*network), dir.file("sums"));
  run_python(python, R"(
import collections, pickle, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
record = [n for n in archive.namelist() if n.endswith('/data.pkl')][0]
class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ('collections', 'OrderedDict'): return collections.OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return lambda storage, offset, size, stride, *rest: (storage, size)
        assert module == 'torch' and name in ('FloatStorage', 'LongStorage'), (module, name)
        return name
    def persistent_load(self, saved):
        kind, storage, key, device, count = saved
        assert kind == 'storage' and device == 'cpu', saved
        width = {'FloatStorage': 4, 'LongStorage': 8}[storage]
        assert len(archive.read(record.replace('data.pkl', 'data/' + key))) == width * count
        return key
state = Reader(archive.open(record)).load()
lines = [line.split() for line in open(sys.argv[2])]
assert list(state) == [line[0] for line in lines]
for name, shape, _ in lines:
    assert 'x'.join(str(n) for n in state[name][1]) == shape.strip('-'), name
)",
             dir.file("w.pt") + " " + dir.file("sums"));
}

}  // namespace
}  // namespace brim::test
