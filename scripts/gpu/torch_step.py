#!/usr/bin/env python3
"""PyTorch on a GPU, timed: the other side of scripts/gpu/bench.

    torch_step.py peaks                                  a large matrix product, a large copy: what this GPU gives
    torch_step.py step MODEL BATCH PRECISION [VARIANT…]  a training step; one line a variant
    torch_step.py convs BATCH PRECISION C,OUT,IMAGE,K,S…     each convolution, forward and both gradients
    torch_step.py topk N…                                torch.topk, alone and with error feedback

The step is scripts/bench/torch_step.py's: the models that cocod-train builds (parameter counts are checked), cross-entropy, SGD with
momentum 0.9 and weight decay 5e-4 (fused). channels_last, cudnn.benchmark, data resident on the GPU and not augmented. Variants:

    eager          autocast to bf16 (or plain tf32, fp32): parameters and optimizer are fp32, as in cocod-train
    graph          the same, the whole step recorded in a CUDA graph
    pure           parameters, gradients and momentum in bf16 as well, in a graph: less work than cocod-train does
    compile        torch.compile, then the whole step in a graph
    autotune       the same with max-autotune

A variant that fails or takes longer than LIMIT seconds (default 150) to get ready says so; the others go on. Times are medians over
rounds, by the GPU's own clock.
"""
import contextlib
import gc
import os
import signal
import statistics
import sys

import torch
from torch.nn import functional as F

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from torch_step import COUNT, build  # noqa: E402

LIMIT = int(os.environ.get("LIMIT", "150"))
ROUNDS, CALLS = 5, int(os.environ.get("CALLS", "30"))
LAST = torch.channels_last
cuda = torch.device("cuda")


def milliseconds(run, calls):
    """Of one call: the median of rounds of so many."""
    times = []
    for _ in range(ROUNDS + 1):
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        for _ in range(calls):
            run()
        ended.record()
        torch.cuda.synchronize()
        times.append(begun.elapsed_time(ended) / calls)
    return statistics.median(times[1:])


def recorded(run, times=1):
    """A graph of so many calls, after a warm-up on a stream of its own."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            run()
    return graph.replay


def time_of(run):
    """Milliseconds of one call of an operation, launches left out where it can be recorded."""
    try:
        return milliseconds(recorded(run, CALLS), 1) / CALLS
    except RuntimeError:
        torch.cuda.synchronize()
        return milliseconds(run, CALLS)


def set_precision(precision):
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


# ---- a training step ----


def training_step(name, batch, precision, variant):
    """A function that trains one step."""
    kind = set_precision(precision)
    torch.manual_seed(1)
    model = build(name).to(cuda, memory_format=LAST)
    count = sum(p.numel() for p in model.parameters())
    assert count == COUNT[name], count
    image = torch.randn(batch, 3, 32, 32, device=cuda).contiguous(memory_format=LAST)
    label = torch.randint(0, 10, (batch,), device=cuda)
    casts = contextlib.nullcontext
    if variant == "pure":
        model, image = model.to(kind), image.to(kind)
    elif kind == torch.bfloat16:
        # a recorded cast of the weights must not be taken from the cache of an earlier step
        def casts():
            return torch.autocast("cuda", kind, cache_enabled=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    def loss_of(x, y):
        with casts():
            return F.cross_entropy(model(x), y)

    forward = loss_of
    if variant in ("compile", "autotune"):
        torch._dynamo.reset()
        forward = torch.compile(loss_of, mode="max-autotune-no-cudagraphs" if variant == "autotune" else "default")

    def step():
        optimizer.zero_grad(set_to_none=True)
        forward(image, label).backward()
        optimizer.step()

    return step


def too_long(*_):
    raise TimeoutError(f"not ready after {LIMIT} s")


def measure_step(name, batch, precision, variant):
    head = f"model={name} batch={batch} precision={precision} variant={variant}"
    torch.cuda.reset_peak_memory_stats()
    signal.alarm(LIMIT)
    try:
        run = training_step(name, batch, precision, variant)
        if variant != "eager":
            run = recorded(run)
        for _ in range(5):
            run()
        torch.cuda.synchronize()
        signal.alarm(0)
        ms = milliseconds(run, CALLS)
        memory = torch.cuda.max_memory_allocated() / 2**20
        rate = f"images_per_s={batch / ms * 1e3:.0f} ms={ms:.3f}"
        print(f"{head} {rate} peak_memory_mb={memory:.0f} version={torch.__version__}", flush=True)
    except Exception as e:  # whatever it is, the next variant has its turn
        words = (str(e).strip().splitlines() or [""])[0][:160]
        print(f"{head} failed: {type(e).__name__}: {words}", flush=True)
    finally:
        signal.alarm(0)


def steps(name, batch, precision, variants):
    signal.signal(signal.SIGALRM, too_long)
    for variant in variants or ["eager", "graph"] + (["pure"] if precision == "bf16" else []) + ["compile"]:
        measure_step(name, batch, precision, variant)
        gc.collect()
        torch.cuda.empty_cache()


# ---- single operations ----


def convs(batch, precision, shapes):
    kind = set_precision(precision)
    for shape in shapes:
        c, out, image, kernel, stride = (int(v) for v in shape.split(","))
        pad = kernel // 2
        x = torch.randn(batch, c, image, image, device=cuda).to(kind).contiguous(memory_format=LAST)
        w = torch.randn(out, c, kernel, kernel, device=cuda).to(kind).contiguous(memory_format=LAST)
        dy = torch.randn_like(F.conv2d(x, w, stride=stride, padding=pad)).contiguous(memory_format=LAST)

        def gradient(data, weight):
            return torch.ops.aten.convolution_backward(dy, x, w, None, [stride, stride], [pad, pad], [1, 1], False, [0, 0], 1,
                                                       [data, weight, False])

        forward = time_of(lambda: F.conv2d(x, w, stride=stride, padding=pad))
        data = time_of(lambda: gradient(True, False)) if c > 3 else 0
        weight = time_of(lambda: gradient(False, True))
        print(f"{c} {out} {image} {kernel} {stride} {1e3 * forward:.1f} {1e3 * data:.1f} {1e3 * weight:.1f}", flush=True)


def topk(sizes):
    for n in sizes:
        k = max(n // 1000, 1)
        gradient = torch.randn(n, device=cuda) ** 3
        residual = torch.zeros(n, device=cuda)

        def feedback():
            residual.add_(gradient)
            index = torch.topk(residual.abs(), k, sorted=False).indices
            value = residual[index]
            residual[index] = 0
            return index, value

        alone = time_of(lambda: torch.topk(gradient.abs(), k, sorted=False))
        print(f"{n} {k} {1e3 * alone:.1f} {1e3 * time_of(feedback):.1f}", flush=True)
        del gradient, residual
        torch.cuda.empty_cache()


def peaks():
    """Rates of a bf16 and a tf32 matrix product of 8192 and of a copy of 2 GB, bytes read and written counted."""
    rates = {}
    for precision in ("bf16", "tf32"):
        kind = set_precision(precision)
        a, b = (torch.randn(8192, 8192, device=cuda).to(kind) for _ in range(2))
        c = torch.empty_like(a)
        rates[precision] = 2 * 8192**3 / milliseconds(lambda: torch.mm(a, b, out=c), 10) / 1e9
    source = torch.randn(1 << 29, device=cuda)
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / milliseconds(lambda: target.copy_(source), 10) / 1e6
    name = torch.cuda.get_device_name(0)
    print(f"bf16_tflops={rates['bf16']:.0f} tf32_tflops={rates['tf32']:.0f} gbs={copy:.0f} name={name}")


def main():
    if not torch.cuda.is_available():
        sys.exit("torch_step.py: this PyTorch finds no GPU")
    words = sys.argv[1:]
    if words[:1] == ["peaks"]:
        peaks()
    elif words[:1] == ["step"] and len(words) >= 4:
        steps(words[1], int(words[2]), words[3], words[4:])
    elif words[:1] == ["convs"] and len(words) >= 4:
        convs(int(words[1]), words[2], words[3:])
    elif words[:1] == ["topk"] and len(words) >= 2:
        topk([int(n) for n in words[1:]])
    else:
        sys.exit(__doc__)


main()
