"""The compared systems' networks in PyTorch, with random weights: for their speed alone."""

import math

import torch
from torch import nn
from torch.nn import functional
from torch_worker import Block


def conv(inputs, outputs, kernel=3, stride=1, bias=True):
    """A convolution padded by half its kernel."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)


def by_position(layer, x):
    """A layer of channels that stand last, on x [B, C, H, W]."""
    return layer(x.movedim(1, -1)).movedim(-1, 1)


class SRCNN(nn.Module):
    """lpdiff_jax/models/baselines/srcnn.py."""

    def __init__(self, features, kernels, out_channels=3):
        super().__init__()
        widths = [3, *features, out_channels]
        layers = [conv(widths[i], widths[i + 1], kernels[i]) for i in range(3)]
        self.layers = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x):
        return self.layers(x)


class Dense(nn.Module):
    """Five convolutions, each on all that came before."""

    def __init__(self, features, growth):
        super().__init__()
        inputs = [features + i * growth for i in range(5)]
        self.convs = nn.ModuleList(conv(n, growth) for n in inputs[:4])
        self.last = conv(inputs[4], features)

    def forward(self, x):
        known = [x]
        for layer in self.convs:
            known.append(functional.leaky_relu(layer(torch.cat(known, 1)), 0.2))
        return x + 0.2 * self.last(torch.cat(known, 1))


class RRDB(nn.Module):
    """lpdiff_jax/models/baselines/rrdb.py at scale 1."""

    def __init__(self, features, blocks, growth, scale=1):
        super().__init__()
        self.first, self.after = conv(48, features), conv(features, features)
        triples = (
            nn.Sequential(*(Dense(features, growth) for _ in range(3))) for _ in range(blocks)
        )
        self.body = nn.ModuleList(triples)
        self.up = nn.ModuleList(conv(features, features) for _ in range(2))
        self.refine, self.last = conv(features, features), conv(features, 3)

    def forward(self, x):
        x = self.first(functional.pixel_unshuffle(x, 4))
        h = x
        for block in self.body:
            h = h + 0.2 * block(h)
        x = x + self.after(h)
        for layer in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = functional.leaky_relu(layer(x), 0.2)
        return self.last(functional.leaky_relu(self.refine(x), 0.2))


def partition(x, window):
    """[B, H, W, C] -> [B windows, window^2, C]."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window**2, channels)


def merge(x, size, window):
    """Undoes `partition`."""
    height, width = size
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


def attend(q, k, v, heads, bias):
    """Attention of several heads; q, k, v [N, positions, C], bias [N or 1, heads, q, k]."""
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    h = functional.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=bias)
    return h.transpose(1, 2).flatten(2)


def offsets(window, reach):
    """A row of the bias table for each pair of a query and a key."""
    q = torch.cartesian_prod(*(torch.arange(window),) * 2)
    k = torch.cartesian_prod(*(torch.arange(reach),) * 2)
    side = window + reach - 1
    down, across = (k[None] - q[:, None] + window - 1).unbind(-1)
    return (down * side + across) % side**2


class WindowAttention(nn.Module):
    """Self attention of windows of [B, H, W, C], moved by half a window where `shift` says so."""

    def __init__(self, channels, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.step = heads, window, window // 2 if shift else 0
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("index", offsets(window, window))
        self.masks = {}

    def mask(self, size):
        """Pairs of regions that only the roll brings together: [windows, 1, q, k]."""
        if size not in self.masks:
            ends = [torch.arange(n) - n for n in size]
            labels = [(end >= -self.window).int() + (end >= -self.step) for end in ends]
            regions = 3 * labels[0][:, None] + labels[1]
            cut = partition(regions[None, :, :, None].float(), self.window)[..., 0]
            self.masks[size] = -100.0 * (cut[:, :, None] != cut[:, None])[:, None]
        return self.masks[size]

    def forward(self, x):
        size, step = tuple(x.shape[1:3]), self.step
        bias = self.table[self.index].permute(2, 0, 1)[None]
        if step:
            x = x.roll((-step, -step), (1, 2))
            bias = (bias + self.mask(size)).repeat(len(x), 1, 1, 1)
        q, k, v = self.qkv(partition(x, self.window)).chunk(3, -1)
        x = merge(self.out(attend(q, k, v, self.heads, bias)), size, self.window)
        return x.roll((step, step), (1, 2)) if step else x


def perceptron(channels, ratio):
    """Two layers with GELU between them."""
    hidden = int(ratio * channels)
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


class Hybrid(nn.Module):
    """Window attention and channel attention side by side, then a perceptron."""

    def __init__(self, channels, heads, window, compress, squeeze, ratio, shift):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, shift)
        narrow, few = channels // compress, channels // squeeze
        self.convs = nn.Sequential(conv(channels, narrow), nn.GELU(), conv(narrow, channels))
        self.gate = nn.Sequential(
            nn.Linear(channels, few), nn.ReLU(), nn.Linear(few, channels), nn.Sigmoid()
        )
        self.mlp = perceptron(channels, ratio)

    def forward(self, x):
        u = self.norm1(x)
        z = self.convs(u.movedim(-1, 1)).movedim(1, -1)
        x = x + self.attention(u) + 0.01 * z * self.gate(z.mean((1, 2), keepdim=True))
        return x + self.mlp(self.norm2(x))


class Overlapping(nn.Module):
    """Attention from each window to a larger one around it, then a perceptron."""

    def __init__(self, channels, heads, window, overlap, ratio):
        super().__init__()
        self.heads, self.window, self.reach = heads, window, window + int(overlap * window)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.table = nn.Parameter(torch.zeros((window + self.reach - 1) ** 2, heads))
        self.register_buffer("index", offsets(window, self.reach))
        self.mlp = perceptron(channels, ratio)

    def wide(self, x):
        """Windows that reach into others: [B windows, reach^2, C] of [B, H, W, C]."""
        margin = (self.reach - self.window) // 2
        cut = functional.unfold(x.movedim(-1, 1), self.reach, padding=margin, stride=self.window)
        return cut.unflatten(1, (x.shape[-1], -1)).permute(0, 3, 2, 1).flatten(0, 1)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        bias = self.table[self.index].permute(2, 0, 1)[None]
        h = attend(partition(q, self.window), self.wide(k), self.wide(v), self.heads, bias)
        x = x + self.out(merge(h, tuple(x.shape[1:3]), self.window))
        return x + self.mlp(self.norm2(x))


class Group(nn.Module):
    """Hybrid blocks, an overlapping one, a convolution: what they add to [B, H, W, C]."""

    def __init__(self, channels, depth, heads, window, compress, squeeze, overlap, ratio):
        super().__init__()
        blocks = [
            Hybrid(channels, heads, window, compress, squeeze, ratio, i % 2 == 1)
            for i in range(depth)
        ]
        self.blocks = nn.Sequential(*blocks, Overlapping(channels, heads, window, overlap, ratio))
        self.conv = conv(channels, channels)

    def forward(self, x):
        return self.conv(self.blocks(x).movedim(-1, 1)).movedim(1, -1)


class HAT(nn.Module):
    """lpdiff_jax/models/baselines/hat.py at scale 1, for sizes that the window divides."""

    def __init__(self, features, depths, heads, window, compress, squeeze, overlap, mlp_ratio, **_):
        super().__init__()
        self.first, self.after = conv(3, features), conv(features, features)
        self.before_last, self.last = conv(features, 64), conv(64, 3)
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.groups = nn.ModuleList(
            Group(features, depth, heads, window, compress, squeeze, overlap, mlp_ratio)
            for depth in depths
        )

    def forward(self, x):
        shallow = self.first(x - 0.44)
        h = self.norm1(shallow.movedim(1, -1))
        for group in self.groups:
            h = h + group(h)
        h = self.after(self.norm2(h).movedim(-1, 1)) + shallow
        return self.last(functional.leaky_relu(self.before_last(h))) + 0.44


class CNN(nn.Module):
    """ResDiff's CNN at scale 1."""

    def __init__(self, features):
        super().__init__()
        self.layers = nn.Sequential(
            conv(3, features[0]), nn.ReLU(), conv(*features), nn.ReLU(), conv(features[1], 3)
        )

    def forward(self, x):
        return x + self.layers(x)


class Squeeze(nn.Module):
    """A gate for each channel, on a residual path."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels // 2, bias=False), nn.ReLU(),
            nn.Linear(channels // 2, channels, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return x + x * self.layers(x.mean((2, 3)))[:, :, None, None]


class Guided(nn.Module):
    """Attention whose queries come from the picture's fine detail."""

    def __init__(self, channels, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.query, self.out = nn.Linear(3, channels, bias=False), nn.Linear(channels, channels)

    def forward(self, x, detail):
        k, v = self.key_value(self.norm(x).flatten(2).transpose(1, 2)).chunk(2, -1)
        q = self.query(detail.flatten(2).transpose(1, 2))
        h = self.out(functional.scaled_dot_product_attention(q, k, v))
        return x + h.transpose(1, 2).reshape(x.shape)


def details(x, levels):
    """The sum of the three Haar bands of each level, finest first."""
    found = []
    for _ in range(levels):
        a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
        found.append((3 * a - b - c - d) / 2)
        x = (a + b + c + d) / 2
    return found


class GuidedUNet(nn.Module):
    """lpdiff_jax/models/baselines/resdiff.py:GuidedUNet, its splitter 'per_image'."""

    def __init__(
        self, features, multipliers, blocks, norm_groups, attention_levels, image_size, **_
    ):
        super().__init__()
        self.features, self.size = features, image_size
        widths = [features * m for m in multipliers]
        attends = [level in attention_levels for level in range(len(widths))]
        self.mlp = nn.Sequential(
            nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, features)
        )
        self.gate, self.squeeze = nn.Linear(features, image_size[1]), Squeeze(3)
        self.widening = nn.Parameter(torch.zeros(()))
        self.stem = conv(15, features)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.guided = nn.ModuleList(Guided(width, norm_groups) for width in widths[:-1])
        channels, skips = features, [features]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Block(channels, width, features, norm_groups, attends[level]))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(conv(channels, channels, stride=2))
                skips.append(channels)
        self.mid = nn.ModuleList(
            Block(channels, channels, features, norm_groups, attend) for attend in (True, False)
        )
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                inputs = channels + skips.pop()
                self.up.append(Block(inputs, width, features, norm_groups, attends[level]))
                channels = width
            if level > 0:
                self.up.append(conv(channels, widths[level]))
        self.norm, self.head = nn.GroupNorm(norm_groups, channels), conv(channels, 3)

    def low_pass(self, size):
        """A Gaussian over the frequencies, as a matrix [size, size]."""
        sigma = self.size[1] / 2 * torch.exp(self.widening)
        places = torch.arange(size)
        frequencies = torch.fft.fftfreq(size) * size
        angles = 2 * math.pi * (places[:, None] - places)[..., None] * frequencies / size
        passed = torch.exp(-(frequencies**2) / (2 * sigma**2)) / size
        return (angles.cos() * passed).sum(-1)

    def forward(self, p, x_t, level):
        half = self.features // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        angles = level[:, None] * frequencies
        embedding = self.mlp(torch.cat([angles.sin(), angles.cos()], 1))
        gate = self.gate(embedding)[:, None, None].expand_as(x_t)
        rows, columns = (self.low_pass(n) for n in self.size)
        low = rows @ p @ columns.T
        x = torch.cat([x_t, p, x_t * self.squeeze(gate), low, p - low], 1)
        queries, guided = details(p, len(self.guided)), iter(self.guided)
        x = self.stem(x)
        skips = [x]
        for layer in self.down:
            if isinstance(layer, Block):
                x = layer(x, embedding)
                skips.append(x)
            else:
                x = layer(x)
                skips.append(next(guided)(x, queries.pop(0)))
        for layer in self.mid:
            x = layer(x, embedding)
        for layer in self.up:
            if isinstance(layer, Block):
                x = layer(torch.cat([x, skips.pop()], 1), embedding)
            else:
                x = layer(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.head(functional.silu(self.norm(x)))


class Scaled(nn.Module):
    """norm, swish, conv twice; the time scales and shifts the second norm."""

    def __init__(self, inputs, outputs, embedding, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.embed = nn.Linear(embedding, 2 * outputs)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, embedding):
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.embed(functional.silu(embedding))[:, :, None, None].chunk(2, 1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(functional.silu(h))


class SwinBlock(nn.Module):
    """Window attention, then a perceptron, on [B, C, H, W]; the norms are of the whole image."""

    def __init__(self, channels, heads, window, shift, ratio, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.attention = WindowAttention(channels, heads, window, shift)
        self.mlp = perceptron(channels, ratio)

    def forward(self, x):
        x = x + by_position(self.attention, self.norm1(x))
        return x + by_position(self.mlp, self.norm2(x))


class SwinUNet(nn.Module):
    """lpdiff_jax/models/baselines/swin_unet.py in pixel space, its mask 'regions'."""

    def __init__(self, features, multipliers, blocks, norm_groups, attention_levels, nominal_size,
                 window, swin_features, swin_depth, head_features, mlp_ratio, **_):  # fmt: skip
        super().__init__()
        self.features = features
        widths = [features * m for m in multipliers]
        wide = 4 * features
        self.mlp = nn.Sequential(nn.Linear(features, wide), nn.SiLU(), nn.Linear(wide, wide))

        def swin(level):
            nominal = nominal_size // 2**level
            heads, side = swin_features // head_features, min(window, nominal)
            inner = [
                SwinBlock(swin_features, heads, side, nominal > window and i % 2 == 1, mlp_ratio,
                          norm_groups)
                for i in range(swin_depth)
            ]  # fmt: skip
            enter, leave = (
                conv(widths[level], swin_features, 1),
                conv(swin_features, widths[level], 1),
            )
            return nn.Sequential(enter, *inner, leave)

        def block(inputs, level, first):
            layers = [Scaled(inputs, widths[level], wide, norm_groups)]
            return nn.ModuleList(layers + [swin(level)] * (first and level in attention_levels))

        self.stem = conv(6, features)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = features, [features]
        for level, width in enumerate(widths):
            for i in range(blocks):
                self.down.append(block(channels, level, i == 0))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(conv(channels, channels, stride=2))
                skips.append(channels)
        middle = [Scaled(channels, channels, wide, norm_groups) for _ in range(2)]
        self.mid = nn.ModuleList([middle[0], swin(len(widths) - 1), middle[1]])
        for level, width in reversed(list(enumerate(widths))):
            for i in range(blocks + 1):
                self.up.append(block(channels + skips.pop(), level, i == 0))
                channels = width
            if level > 0:
                self.up.append(conv(channels, channels))
        self.norm, self.head = nn.GroupNorm(norm_groups, channels), conv(channels, 3)

    def forward(self, condition, x_t, time):
        half = self.features // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        angles = time[:, None] * frequencies
        embedding = self.mlp(torch.cat([angles.cos(), angles.sin()], 1))

        def through(layers, x):
            for layer in layers:
                x = layer(x, embedding) if isinstance(layer, Scaled) else layer(x)
            return x

        x = self.stem(torch.cat([x_t, condition], 1))
        skips = [x]
        for layer in self.down:
            x = through(layer, x) if isinstance(layer, nn.ModuleList) else layer(x)
            skips.append(x)
        x = through(self.mid, x)
        for layer in self.up:
            if isinstance(layer, nn.ModuleList):
                x = through(layer, torch.cat([x, skips.pop()], 1))
            else:
                x = layer(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.head(functional.silu(self.norm(x)))
