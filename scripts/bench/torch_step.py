#!/usr/bin/python3
"""One PyTorch training step on the CPU, timed: the other side of scripts/bench/compare.

Forward, cross-entropy, backward, SGD with momentum 0.9 and weight decay 5e-4 on CIFAR-shaped data that is resident in memory; the
models are the CIFAR forms that cocod-train builds (same parameter counts, checked). Prints one line:

    images_per_s=61.9 peak_memory_mb=853 parameters=11173962 version=1.13.1

usage: torch_step.py MODEL BATCH THREADS STEPS [channels_last]
"""
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

COUNT = {"resnet18": 11173962, "resnet20": 269722, "vgg16": 14728266}


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: a projection, or (padded=True) ResNet's option A."""

    def __init__(self, inputs, outputs, stride, padded):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        self.extra = 0
        if stride != 1 or inputs != outputs:
            if padded:
                self.extra = (outputs - inputs) // 2
            else:
                self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.extra:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(y.add_(x), inplace=True)


class ResNet(nn.Module):
    def __init__(self, blocks, widths, padded):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, channels = [], widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            for i in range(count):
                stages.append(Block(channels, width, 2 if stage and not i else 1, padded))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.stages(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def vgg16():
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def build(name):
    if name == "resnet18":
        return ResNet((2, 2, 2, 2), (64, 128, 256, 512), False)
    if name == "resnet20":
        return ResNet((3, 3, 3), (16, 32, 64), True)
    return vgg16()


def main():
    name, batch, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    layout = torch.channels_last if sys.argv[5:] == ["channels_last"] else torch.contiguous_format
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = build(name).to(memory_format=layout)
    count = sum(p.numel() for p in model.parameters())
    assert count == COUNT[name], count
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    data = [(torch.randn(batch, 3, 32, 32).contiguous(memory_format=layout), torch.randint(0, 10, (batch,))) for _ in range(2)]
    seconds = []
    for step in range(steps + 2):
        image, label = data[step % 2]
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(image), label).backward()
        optimizer.step()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"images_per_s={batch / statistics.median(seconds):.2f} peak_memory_mb={memory:.0f} parameters={count} version={torch.__version__}")


if __name__ == "__main__":
    main()
