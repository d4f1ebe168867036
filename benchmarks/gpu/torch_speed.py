"""PyTorch's side of part (b) of the GPU kit. Needs torch alone.

    python benchmarks/gpu/torch_speed.py FOLDER SECONDS [--rehearse]

The same denoiser (benchmarks/speed/torch_worker.py), channels last, with scaled-dot-product
attention, eager and through torch.compile, in the order of `speed.py`. psi is not written in
PyTorch here: it has no counterpart.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from torch_worker import UNet, sample

NETWORKS = {
    "lpdiff": ((112, 224), dict(features=64, multipliers=(1, 2, 4, 8, 8), blocks=2, norm_groups=32,
               nominal_resolution=128, attention_resolutions=(16,), patch=1)),
    "compact": ((48, 96), dict(features=48, multipliers=(1, 2, 3), blocks=2, norm_groups=16,
                nominal_resolution=128, attention_resolutions=(32,), patch=2)),
    "quickstart": ((48, 96), dict(features=32, multipliers=(1, 2, 3), blocks=1, norm_groups=16,
                   nominal_resolution=128, attention_resolutions=(32,), patch=2)),
}  # fmt: skip
PROGRAMS = ("denoiser_step", "denoiser", "sampler")


def cases(rehearse):
    """(network, program, precision, batch), the most telling first, as `speed.py` has them."""
    if rehearse:
        return [("quickstart", name, p, 2) for p in ("bfloat16", "float32") for name in PROGRAMS]
    first = [("lpdiff", "denoiser_step", "bfloat16", batch) for batch in (32, 128, 8)]
    rest = [
        (network, program, precision, batch)
        for precision in ("bfloat16", "tf32", "float32")
        for batch in (32, 256, 1)
        for program in PROGRAMS
        for network in ("lpdiff", "compact")
    ]
    return list(dict.fromkeys(first + rest))


def main():
    """Measures until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    start = time.monotonic()
    for by in ("eager", "compiled"):
        # Two fifths for eager: compiling takes long.
        end = start + args.seconds * (0.4 if by == "eager" else 1.0)
        for case in cases(args.rehearse):
            if time.monotonic() > end - (0 if args.rehearse or by == "eager" else 40):
                break
            row = {"part": "torch", "by": by, **dict(zip(
                ("network", "program", "precision", "batch"), case, strict=True))}  # fmt: skip
            try:
                row["ms"] = 1e3 * measure(*case, device, by == "compiled")
            except Exception as error:  # out of memory at a large batch: the others still count
                row = {"part": "torch", "failed": [by, *case], "error": str(error)[:300]}
            with (args.folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def measure(network, program, precision, batch, device, compiled):
    """Seconds of a run: the median of up to 20, or two seconds' worth, after three."""
    torch._dynamo.reset()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    side, fields = NETWORKS[network]
    unet = UNet(**fields).to(device, memory_format=torch.channels_last)
    run = make(unet, program, precision, (batch, 3, *side), device, compiled)
    taken = []
    while len(taken) < 23 and sum(taken[3:]) < 2.0:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:] or taken)


def make(unet, program, precision, shape, device, compiled):
    """A function that does a program once."""
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4, fused=device == "cuda")
    psi, x_t, noise = (
        torch.randn(shape, device=device).to(memory_format=torch.channels_last) for _ in range(3)
    )
    level = torch.full(shape[:1], 0.7, device=device)
    call = torch.compile(unet) if compiled else unet

    def low():
        if precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(device, torch.bfloat16)

    def step():
        with low():
            output = call(psi, x_t, level)
        loss = (output.float() - noise).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def once():
        with low():
            call(psi, x_t, level)

    @torch.no_grad()
    def draw():
        with low():
            sample(call, psi, [0.01, 1.0])

    return {"denoiser_step": step, "denoiser": once, "sampler": draw}[program]


if __name__ == "__main__":
    main()
