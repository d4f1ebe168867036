"""PyTorch's training step, one for every line on standard input. Needs torch alone.

Started by benchmarks/speed/train_step.py in an interpreter that has torch.
"""

import json
import resource
import sys
import time

import torch
from torch_worker import UNet


def main() -> None:
    """Reads the settings, then steps until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unet = UNet(**settings["denoiser"]).to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4)
    batch = settings["batch"]
    psi, x_t, noise = torch.randn(3, batch, 3, *settings["image_size"], device=device)
    level = torch.full((batch,), 0.7, device=device)
    low = settings["dtype"] == "bfloat16"
    parameters = sum(p.numel() for p in unet.parameters())
    print(json.dumps({"compile_seconds": 0.0, "parameters": parameters}), flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        with torch.autocast(device, torch.bfloat16, enabled=low):
            output = unet(psi, x_t, level)
        loss = (output.float() - noise).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        answer = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
