#!/usr/bin/python3
"""Writes test/golden/MODEL.bin: what PyTorch computes for a narrow form of each model, in double precision.

    /usr/bin/python3 scripts/golden.py [MODEL ...]

A file holds the loss and every gradient of one batch, the losses of ten steps of SGD on it, and batch norm's running statistics
after them. Parameters and images are not stored: value() below and kit_value() in test/net_kit.h are the same function.

Where a ReLU's input is nearly zero, or two values under a max pool nearly equal, rounding decides which way the gradient goes,
and two correct programs differ. So of many batches the one is taken that stays farthest away from all such places. Ten steps
cannot avoid them all; there the learning rates are small, so that what a step changes too much does not grow in the next.
"""

import struct
import sys

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

CLASSES = 10
BATCHES_TRIED = 400


def value(name, count):
    """In [-0.5, 0.5), a function of the name and the index alone."""
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    v = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + h).astype(np.uint32)
    v ^= v >> np.uint32(16)
    v = (v.astype(np.uint64) * 0x7FEB352D).astype(np.uint32)
    v ^= v >> np.uint32(15)
    v = (v.astype(np.uint64) * 0x846CA68B).astype(np.uint32)
    v ^= v >> np.uint32(16)
    return (v >> np.uint32(8)) / 2.0**24 - 0.5


class Shortcut(nn.Module):
    """Option A: every second pixel, new channels are zero on both sides."""

    def __init__(self, more):
        super().__init__()
        self.front, self.back = more // 2, more - more // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.front, self.back))


class Block(nn.Module):
    def __init__(self, cin, cout, stride, option_a):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = nn.Identity()
        if stride != 1 or cin != cout:
            self.downsample = Shortcut(cout - cin) if option_a else nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.downsample(x))


class Bottleneck(nn.Module):
    def __init__(self, cin, channels, stride):
        super().__init__()
        cout = 4 * channels
        self.conv1 = nn.Conv2d(cin, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.downsample = nn.Identity()
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(y)))))
        return self.relu3(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, cin, channels, blocks, classes, option_a, bottleneck=False):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        last, self.stages = channels[0], len(channels)
        for stage, c in enumerate(channels):
            layer = []
            for i in range(blocks[stage]):
                stride = 2 if stage and not i else 1
                layer.append(Bottleneck(last, c, stride) if bottleneck else Block(last, c, stride, option_a))
                last = 4 * c if bottleneck else c
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(last, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, cin, channels, classes):
        super().__init__()
        layers = []
        for group, c in enumerate(channels):
            for _ in range(2 if group < 2 else 3):
                layers += [nn.Conv2d(cin, c, 3, 1, 1), nn.BatchNorm2d(c), nn.ReLU()]
                cin = c
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(cin, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


# batch, height, width, channels, model.width, learning rate
MODELS = {
    "resnet18": ((4, 24, 24, 3, 1 / 16, 0.001), lambda: ResNet(3, (8, 8, 16, 32), (2, 2, 2, 2), CLASSES, False)),
    "resnet20": ((4, 28, 28, 1, 0.25, 0.001), lambda: ResNet(1, (8, 8, 16), (3, 3, 3), CLASSES, True)),
    "resnet50": ((4, 24, 24, 3, 1 / 16, 3e-8), lambda: ResNet(3, (8, 8, 16, 32), (3, 4, 6, 3), CLASSES, False, True)),
    "vgg16": ((8, 32, 32, 3, 1 / 32, 0.0001), lambda: VGG(3, (8, 8, 8, 16, 16), CLASSES)),
}
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


def fill(model):
    for name, p in model.named_parameters():
        scale, shift = 0.2, 0.0
        if p.dim() > 1:
            scale = np.sqrt(24.0 * p.shape[0] / p.numel())
        elif name.endswith("weight"):
            scale, shift = 0.5, 1.0
        v = (scale * value(name, p.numel()) + shift).astype(np.float32)
        p.data = torch.from_numpy(v).double().reshape(p.shape)


def images(shape, seed):
    n, h, w, c = shape
    return torch.from_numpy((4 * value(f"image {seed}", n * h * w * c)).astype(np.float32)).double().reshape(n, c, h, w)


def watch_kinks(model, seen):
    """Appends to `seen`, at every forward, how close each ReLU and max pool comes to a place where its gradient jumps."""
    def relu(_, inputs):
        z = inputs[0].detach()
        seen.append((z.abs().min() / z.std()).item())

    def pool(_, inputs):
        z = inputs[0].detach()
        n, c, h, w = z.shape
        top = z.reshape(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).reshape(-1, 4).topk(2, dim=1).values
        top = top[top[:, 1] > 0]        # two zeros of a ReLU: no gradient passes either way
        seen.append(((top[:, 0] - top[:, 1]).min() / z.std()).item())

    for m in model.modules():
        if isinstance(m, nn.ReLU):
            m.register_forward_pre_hook(relu)
        if isinstance(m, nn.MaxPool2d):
            m.register_forward_pre_hook(pool)


def best_batch(make, shape):
    model, best, seen = make().double(), (0, 0), []
    fill(model)
    watch_kinks(model, seen)
    for seed in range(BATCHES_TRIED):
        seen.clear()
        with torch.no_grad():
            model(images(shape, seed))
        best = max(best, (min(seen), seed))
    return best


def train(model, x, lr):
    """Ten steps on one batch: the losses, and the gradients of the first."""
    label = torch.arange(len(x)) * 7 % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    losses, grads = [], {}
    for step in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), label)
        loss.backward()
        if step == 0:
            grads = {k: p.grad.clone().numpy() for k, p in model.named_parameters()}
        losses.append(loss.item())
        optimizer.step()
    return losses, grads


def write(out, name, tensor):
    data = np.ascontiguousarray(tensor, dtype="<f4")
    out.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<i", data.size) + data.tobytes())


def golden(name):
    (n, h, w, c, width, lr), make = MODELS[name]
    margin, seed = best_batch(make, (n, h, w, c))
    model = make().double()
    fill(model)
    losses, grads = train(model, images((n, h, w, c), seed), lr)
    with open(f"test/golden/{name}.bin", "wb") as out:
        out.write(b"cocod golden 1\n")
        write(out, "config", [n, h, w, c, CLASSES, width, seed, lr, MOMENTUM, WEIGHT_DECAY])
        write(out, "losses", losses)
        for k, g in grads.items():
            write(out, k, g)
        for k, b in model.named_buffers():
            if not k.endswith("num_batches_tracked"):
                write(out, k, b.numpy())
    print(f"{name}: batch {seed}, margin {margin:.1e}, losses {losses[0]:.5f} ... {losses[-1]:.5f}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    for chosen in sys.argv[1:] or MODELS:
        golden(chosen)
