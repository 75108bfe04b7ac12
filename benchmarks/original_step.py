#!/usr/bin/env python3
"""Times the training step of the original program, for bench_gpu_step to be compared with.

Usage: original_step.py [MODEL] [SIZE] [BATCH] [STEPS] [MEMORY_FORMAT]
Needs PyTorch with CUDA and the package yolov5 (7.0) on PYTHONPATH. The batch is random bytes on the
device with 8 boxes per image; the step is what the original's training loop does with it: division by
255, forward under fp16 autocast, loss, scaled backward, clipping, SGD, EMA.
"""
import statistics
import sys
import time

import torch
import yolov5
from pathlib import Path
from yolov5.models.yolo import Model
from yolov5.utils.loss import ComputeLoss
from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

HYP = dict(box=0.05, cls=0.5, cls_pw=1.0, obj=1.0, obj_pw=1.0, iou_t=0.2, anchor_t=4.0, fl_gamma=0.0,
           label_smoothing=0.0)


def main():
    arguments = sys.argv[1:] + [None] * 5
    name = arguments[0] or "yolov5s"
    size, batch, steps = (int(a or d) for a, d in zip(arguments[1:4], (640, 64, 30)))
    layout = arguments[4] or "contiguous"
    device = torch.device("cuda:0")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    config = Path(yolov5.__file__).parent / "models" / f"{name}.yaml"
    model = Model(str(config), ch=3, nc=80).to(device)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    model.hyp, model.nc = HYP, 80
    optimizer = smart_optimizer(model, "SGD", 1e-4, 0.937, 5e-4)
    scaler = torch.cuda.amp.GradScaler(enabled=True)
    ema = ModelEMA(model)
    loss_of = ComputeLoss(model)
    model.train()
    images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    if layout == "channels_last":
        images = images.to(memory_format=torch.channels_last)
    boxes = torch.rand(batch * 8, 4, device=device)
    targets = torch.cat([torch.arange(batch, device=device).repeat_interleave(8)[:, None].float(),
                         torch.randint(80, (batch * 8, 1), device=device).float(),
                         boxes[:, :2] * 0.8 + 0.1, boxes[:, 2:] * 0.3 + 0.02], 1)

    def step():
        floats = images.float() / 255
        with torch.cuda.amp.autocast(True):
            loss, items = loss_of(model(floats), targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        ema.update(model)
        items.cpu()

    for _ in range(10):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    middle = statistics.median(times)
    mib = 1 << 20
    print(f"original {name} {size} batch {batch} fp16 {layout}: step {middle:.1f} ms (best {min(times):.1f}), "
          f"{1000 * batch / middle:.0f} images/s; peak {torch.cuda.max_memory_allocated() / mib:.0f} MiB in tensors, "
          f"{torch.cuda.max_memory_reserved() / mib:.0f} MiB reserved; torch {torch.__version__}")


if __name__ == "__main__":
    main()
