// Reads one epoch of a YOLO dataset and prints what limited it: ./example_loader data.yaml
#include <iostream>

#include "brim/cache/error.h"
#include "brim/dataloader/loader.h"

int main(int argc, char** argv) try {
  if (argc != 2) throw brim::Error("expected the path of a data.yaml");
  const auto data = brim::open_yolo(argv[1]);
  brim::Loader loader(data, brim::make_detection_transform(640), {.batch_size = 16, .seed = 1});
  for (int epoch = 0; epoch < 1; ++epoch) {
    loader.start(epoch);
    while (auto batch = loader.next()) {
      // uint8 RGB [N, 640, 640, 3] and rows of (image, class, cx, cy, w, h)
      std::cout << batch->size() << " images, " << batch->targets().size() << " boxes\n";
    }
    std::cout << bottleneck(loader.statistics()) << "\n";
  }
} catch (const brim::Error& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
