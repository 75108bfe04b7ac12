// Every key of an experiment: its place, its meaning and what it accepts.
#include "config.h"

namespace brim::cli {

// clang-format off
std::vector<Setting> settings_of(Config& c) {
  return {
      {"data.path", &c.data.path, "data.yaml, folder of classes, COCO JSON, tar shards or IDX folder", ""},
      {"data.task", &c.data.task, "what is learnt; auto: what the data is", "auto|detect|classify"},
      {"data.index_dir", &c.data.index_dir, "where scanned indexes are kept; auto: the user's cache folder; none", ""},
      {"data.sharding", &c.data.sharding, "how machines divide the training data; shard: each opens tar shards of its own, the others need not be there", "record|shard"},
      {"data.single_class", &c.data.single_class, "treat every box as class 0", ""},
      {"data.class_weighted", &c.data.class_weighted, "draw images so that rare classes are seen as often as common ones", ""},

      {"model.name", &c.model.name, "yolov5{n,s,m,l,x}[6], resnet{18,34,50,101} or a model YAML", ""},
      {"model.weights", &c.model.weights, "state_dict or checkpoint to start from", ""},
      {"model.freeze", &c.model.freeze, "first layers that stay as they are", "0.."},
      {"model.auto_anchor", &c.model.auto_anchor, "check anchors against the labels and refit when they miss", ""},

      {"train.epochs", &c.train.epochs, "passes over the data", "1.."},
      {"train.batch", &c.train.batch, "images per step; auto (or -1): tuned; below 1: that share of memory", ""},
      {"train.img", &c.train.img, "side of the training images, pixels", "32..4096"},
      {"train.optimizer", &c.train.optimizer, "update rule", "sgd|adam|adamw"},
      {"train.lr0", &c.train.lr0, "initial learning rate", "0..10"},
      {"train.lrf", &c.train.lrf, "final learning rate as a share of lr0", "0..1"},
      {"train.momentum", &c.train.momentum, "SGD momentum, Adam beta1", "0..1"},
      {"train.weight_decay", &c.train.weight_decay, "L2 penalty at the nominal batch", "0..1"},
      {"train.warmup_epochs", &c.train.warmup_epochs, "epochs of warm-up (at least 100 steps)", "0..1000"},
      {"train.warmup_momentum", &c.train.warmup_momentum, "momentum at the start of warm-up", "0..1"},
      {"train.warmup_bias_lr", &c.train.warmup_bias_lr, "learning rate of biases at the start of warm-up; auto: 0.1 with sgd, lr0 with adam and adamw", ""},
      {"train.cosine", &c.train.cosine, "cosine instead of linear decay", ""},
      {"train.decay", &c.train.decay, "when the learning rate falls: after each epoch, at each step, or one epoch late as YOLOv5 does", "epoch|step|epoch_late"},
      {"train.nominal_batch", &c.train.nominal_batch, "gradients are accumulated up to this many images; auto: 64, in short runs fewer", ""},
      {"train.clip_norm", &c.train.clip_norm, "largest total gradient norm; 0: no clipping", "0.."},
      {"train.precision", &c.train.precision, "arithmetic of forward and backward; auto: fp16 on a GPU, fp32 on the CPU", "fp32|bf16|fp16|auto"},
      {"train.activation_checkpointing", &c.train.activation_checkpointing, "recompute activations in the backward pass: a third more work, much less memory; auto: when memory runs short", "auto|on|off"},
      {"train.ema", &c.train.ema, "keep and evaluate a moving average of the weights", ""},
      {"train.precise_bn", &c.train.precise_bn,
       "training images over which batch-norm statistics are measured before each evaluation; 0: "
       "the running averages stay",
       "0.."},
      {"train.multi_scale", &c.train.multi_scale, "vary the image size by half around `img`", ""},
      {"train.patience", &c.train.patience, "epochs without improvement before stopping; 0: never stop", "0.."},
      {"train.max_steps", &c.train.max_steps, "stop after so many steps; 0: no limit", "0.."},
      {"train.seed", &c.train.seed, "of order, augmentation and initial weights", "0.."},
      {"train.val", &c.train.val, "evaluate after each epoch", ""},
      {"train.save_period", &c.train.save_period, "also keep epoch<N>.pt every so many epochs; 0: no", "0.."},
      {"train.checkpoint_minutes", &c.train.checkpoint_minutes, "last.pt is also written within an epoch, this often; 0: no", "0.."},
      {"train.threads", &c.train.threads, "compute threads; auto: all CPUs this process may use, shared by the ranks of a machine", ""},
      {"train.device", &c.train.device, "cpu, cuda or cuda:N", ""},
      {"train.cudnn_search", &c.train.cudnn_search, "time cuDNN's algorithms for each new size first: steps a few percent faster after some seconds; auto: in runs of over 500,000 images", "auto|on|off"},
      {"train.rank_timeout", &c.train.rank_timeout, "seconds without a sign of life after which another rank counts as failed", "1..3600"},

      {"loss.box", &c.loss.box, "gain of the box loss", "0.."},
      {"loss.cls", &c.loss.cls, "gain of the class loss", "0.."},
      {"loss.cls_pw", &c.loss.cls_pw, "weight of positive classes", "0.."},
      {"loss.obj", &c.loss.obj, "gain of the objectness loss", "0.."},
      {"loss.obj_pw", &c.loss.obj_pw, "weight of positive objectness", "0.."},
      {"loss.anchor_t", &c.loss.anchor_t, "largest ratio between a box and its anchor", "1.."},
      {"loss.fl_gamma", &c.loss.fl_gamma, "focal loss exponent; 0: off", "0.."},
      {"loss.label_smoothing", &c.loss.label_smoothing, "share of certainty taken from labels", "0..1"},

      {"augment.hsv_h", &c.augment.hsv_h, "hue gain, fraction", "0..1"},
      {"augment.hsv_s", &c.augment.hsv_s, "saturation gain, fraction", "0..1"},
      {"augment.hsv_v", &c.augment.hsv_v, "value gain, fraction", "0..1"},
      {"augment.degrees", &c.augment.degrees, "rotation, +/- degrees", "0..180"},
      {"augment.translate", &c.augment.translate, "translation, +/- fraction", "0..1"},
      {"augment.scale", &c.augment.scale, "gain 1 +/- scale", "0..1"},
      {"augment.shear", &c.augment.shear, "shear, +/- degrees", "0..90"},
      {"augment.perspective", &c.augment.perspective, "perspective, +/- fraction", "0..0.01"},
      {"augment.flipud", &c.augment.flipud, "probability of an upside-down flip", "0..1"},
      {"augment.fliplr", &c.augment.fliplr, "probability of a left-right flip", "0..1"},
      {"augment.mosaic", &c.augment.mosaic, "probability of a mosaic", "0..1"},
      {"augment.close_mosaic", &c.augment.close_mosaic, "last epochs, which show whole images instead of mosaics", "0.."},
      {"augment.mosaic9", &c.augment.mosaic9, "share of mosaics made of nine images", "0..1"},
      {"augment.mixup", &c.augment.mixup, "probability of mixing with a second sample", "0..1"},
      {"augment.copy_paste", &c.augment.copy_paste, "probability of pasting outlined objects", "0..1"},
      {"augment.min_area", &c.augment.min_area, "smallest crop of classification, share of the image", "0.01..1"},

      {"loader.workers", &c.loader.workers, "decoding threads; auto; 0: on the training thread", ""},
      {"loader.prefetch", &c.loader.prefetch, "batches kept ready; auto", ""},
      {"loader.cache", &c.loader.cache, "where images are kept between epochs; auto: measured on a sample", "auto|none|ram|disk|lmdb|tiered"},
      {"loader.cache_dir", &c.loader.cache_dir, "folder of disk and lmdb caches; auto: the user's cache folder", ""},
      {"loader.cache_size", &c.loader.cache_size, "bytes the cache may hold, e.g. 4GiB; auto", ""},
      {"loader.cache_share", &c.loader.cache_share, "one RAM cache for all processes of this machine; auto: where that works; machine: and say so where not", "auto|never|machine"},
      {"loader.cache_fill", &c.loader.cache_fill, "share of the workers' time that filling the cache may take in the first epoch, eight times as much in each later one; idle time is free; 1: everything at once", "0..1"},
      {"loader.content", &c.loader.content, "what is kept: file bytes or pixels at training size; auto: measured", "auto|decoded|encoded"},
      {"loader.partners", &c.loader.partners, "mosaic partners: preceding samples of the shuffle, or any", "window|uniform"},
      {"loader.window", &c.loader.window, "samples of one lane that partners come from", "2..4096"},
      {"loader.lanes", &c.loader.lanes, "independent windows; ranks must divide it", "1..4096"},
      {"loader.truncated", &c.loader.truncated, "images that end early", "reject|accept"},
      {"loader.max_bad_fraction", &c.loader.max_bad_fraction, "share of unreadable images that stops the run", "0..1"},

      {"memory.limit", &c.memory.limit, "bytes this process may hold, e.g. 6GiB; auto: what machine and container allow", ""},
      {"memory.device_limit", &c.memory.device_limit, "bytes of the GPU's memory this process may hold, e.g. 8GiB; auto: all that is free", ""},
      {"memory.allocator", &c.memory.allocator, "tensor memory: brim's pool or the system's malloc", "pool|system"},

      {"val.split", &c.val.split, "part of the data that is evaluated", "train|val|test"},
      {"val.conf", &c.val.conf, "smallest confidence of a detection", "0..1"},
      {"val.iou", &c.val.iou, "overlap above which non-maximum suppression drops a box", "0..1"},
      {"val.max_det", &c.val.max_det, "most detections kept per image", "1.."},
      {"val.batch", &c.val.batch, "images per evaluation step; auto: the training batch, twice that on a GPU", ""},

      {"predict.conf", &c.predict.conf, "smallest confidence of what predict shows", "0..1"},
      {"predict.iou", &c.predict.iou, "overlap above which predict drops a box", "0..1"},

      {"output.dir", &c.output.dir, "run folder; auto: runs/<command>/exp<N>", ""},
      {"output.exist_ok", &c.output.exist_ok, "write over a training that output.dir holds", ""},
      {"output.plots", &c.output.plots, "draw plots and pictures", ""},
      {"output.log_steps", &c.output.log_steps, "every so many steps one is written to metrics.jsonl", "1.."},
  };
}
// clang-format on

}  // namespace brim::cli
