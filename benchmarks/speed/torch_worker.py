"""The same denoiser and the same sampler in PyTorch, timed on request. Needs torch alone.

Started by benchmarks/speed/restore.py in another interpreter. It answers each line of JSON on
standard input with one on standard output: {"work": "call" | "sample", "batch": B} -> {"seconds":
s}. The first line describes the model: {"denoiser": fields, "image_size": [H, W], "levels":
[...], "compile": bool, "dtype": name}. Weights are random: they do not change the speed.
"""

import itertools
import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """GroupNorm, swish, conv, twice; the noise level's embedding is added in between."""

    def __init__(self, inputs, outputs, embedding, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.embed = nn.Linear(embedding, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, embedding):
        h = self.conv1(functional.silu(self.norm1(x))) + self.embed(embedding)[:, :, None, None]
        return self.shortcut(x) + self.conv2(functional.silu(self.norm2(h)))


class Attention(nn.Module):
    """One head of self attention over positions."""

    def __init__(self, channels, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A residual block, and attention where the level has it."""

    def __init__(self, inputs, outputs, embedding, groups, attend):
        super().__init__()
        self.residual = Residual(inputs, outputs, embedding, groups)
        self.attention = Attention(outputs, groups) if attend else nn.Identity()

    def forward(self, x, embedding):
        return self.attention(self.residual(x, embedding))


class UNet(nn.Module):
    """The denoiser of lpdiff_jax/models/unet.py, with the same fields."""

    def __init__(self, features, multipliers, blocks, norm_groups, nominal_resolution,
                 attention_resolutions, patch, **_):  # fmt: skip
        super().__init__()
        self.features, self.patch = features, patch
        widths = [features * m for m in multipliers]
        attends = [nominal_resolution // 2**i in attention_resolutions for i in range(len(widths))]
        self.mlp = nn.Sequential(
            nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, features)
        )
        self.stem = nn.Conv2d(6 * patch**2, features, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = features, [features]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Block(channels, width, features, norm_groups, attends[level]))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(channels, channels, 3, 2, 1))
                skips.append(channels)
        self.mid = Block(channels, channels, features, norm_groups, False)
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                inputs = channels + skips.pop()
                self.up.append(Block(inputs, width, features, norm_groups, attends[level]))
                channels = width
            if level > 0:
                self.up.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.head = nn.Conv2d(channels, 3 * patch**2, 3, padding=1)

    def forward(self, psi, x_t, level):
        half = self.features // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=x_t.device) / half)
        angles = level[:, None] * frequencies
        embedding = self.mlp(torch.cat([angles.sin(), angles.cos()], 1).to(x_t.dtype))
        x = self.stem(functional.pixel_unshuffle(torch.cat([psi, x_t], 1), self.patch))
        skips = [x]
        for layer in self.down:
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        x = self.mid(x, embedding)
        for layer in self.up:
            if isinstance(layer, Block):
                x = layer(torch.cat([x, skips.pop()], 1), embedding)
            else:
                x = layer(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return functional.pixel_shuffle(self.head(functional.silu(self.norm(x))), self.patch)


def sample(unet, psi, levels):
    """DDIM over falling levels (the last is 1), v-prediction."""
    x = torch.randn_like(psi)
    for level, after in itertools.pairwise(levels):
        sigma, sigma_after = math.sqrt(1 - level**2), math.sqrt(max(1 - after**2, 0.0))
        v = unet(psi, x, torch.full((len(psi),), level, device=psi.device))
        x_0 = level * x - sigma * v
        x_0 = (psi + x_0).clamp(-1, 1) - psi
        x = after * x_0 + sigma_after / sigma * (x - level * x_0)
    return psi + x


def main():
    """Answers requests until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, settings["dtype"])
    unet = UNet(**settings["denoiser"]).to(device, dtype).eval()
    parameters = sum(p.numel() for p in unet.parameters())
    if settings["compile"]:
        unet = torch.compile(unet)
    print(json.dumps({"torch": torch.__version__, "parameters": parameters}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            batch = request["batch"]
            psi = torch.zeros(batch, 3, *settings["image_size"], device=device, dtype=dtype)
            start = time.perf_counter()
            if request["work"] == "call":
                unet(psi, psi, torch.full((batch,), 0.7, device=device))
            else:
                sample(unet, psi, settings["levels"])
            if device == "cuda":
                torch.cuda.synchronize()
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
