"""Times the compared systems in PyTorch on request. Needs torch alone.

Started by benchmarks/speed/baselines.py in another interpreter. The first line of JSON on standard
input describes the model: {"networks": [{"name": ..., fields}, ...], "image_size": [H, W], "steps":
N}; the answer has the number of parameters. Each further line, {"batch": B}, restores B plates once
and is answered by the seconds on the clock and of the processor. Weights are random: they do not
change the speed.
"""

import json
import sys
import time

import torch
from torch_systems import CNN, HAT, RRDB, SRCNN, GuidedUNet, SwinUNet

NETWORKS = {"srcnn": SRCNN, "hat": HAT, "rrdb": RRDB, "cnn": CNN, "guided": GuidedUNet,
            "swin": SwinUNet}  # fmt: skip


def build(networks, image_size):
    """The networks, by name."""
    made = {}
    for fields in networks:
        given = {key: value for key, value in fields.items() if key != "name"}
        if fields["name"] == "guided":
            given["image_size"] = image_size
        made[fields["name"]] = NETWORKS[fields["name"]](**given).eval()
    return made


def restore(networks, frame, steps):
    """One restoration of frames [B, 3, H, W]: a network once, or a chain of a denoiser's calls."""
    single = [network for name, network in networks.items() if name not in ("guided", "swin")]
    x = single[0](frame) if single else frame
    if "guided" in networks:
        noisy = torch.randn_like(x)
        for k in range(steps):
            level = torch.full((len(x),), (k + 0.5) / steps)
            eps = networks["guided"](x, noisy, level)
            clean = ((noisy - 0.3 * eps) / 0.95 + x).clamp(-1, 1) - x
            noisy = 0.95 * clean + 0.3 * eps
        x = x + noisy
    if "swin" in networks:
        noisy = x + torch.randn_like(x)
        for k in reversed(range(steps)):
            clean = networks["swin"](frame, noisy / 2, torch.full((len(x),), float(k)))
            noisy = 0.5 * noisy + 0.5 * clean.clamp(-1, 1) + 0.1 * torch.randn_like(x)
        x = noisy
    return x.clamp(-1, 1)


def main():
    """Answers requests until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    networks = build(settings["networks"], settings["image_size"])
    count = sum(p.numel() for network in networks.values() for p in network.parameters())
    print(json.dumps({"torch": torch.__version__, "parameters": count}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            frame = torch.zeros(json.loads(line)["batch"], 3, *settings["image_size"])
            clock, processor = time.perf_counter(), time.process_time()
            restore(networks, frame, settings["steps"])
            spent = {"seconds": time.perf_counter() - clock}
            print(json.dumps(spent | {"cpu": time.process_time() - processor}), flush=True)


if __name__ == "__main__":
    main()
