"""How fast groups are drawn, read and batched, against a PyTorch DataLoader in the same run.

    python benchmarks/speed/data.py [--groups 500] [--rounds 5] [--memory 5]
    python benchmarks/speed/data.py --minutes 60

Rates are groups per second of one core: groups over the processor time of the whole process with
its threads, so that another program on the machine disturbs little. What is compared runs by turns;
a ratio is the median of the rounds' ratios. Without torch its rows are left out. `--minutes`
measures only memory, by the clock.
"""

import argparse
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.augment import AugmentConfig
from data_pipeline.pipeline import train_dataset
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import Source, open_source
from data_pipeline.synthetic.groups import synthesize
from data_pipeline.tree import Group, TreeSource

BATCH = 32
MDLP = 11_006  # groups
SIZES = {"112 x 224": (112, 224), "48 x 96": (48, 96)}


def rate(work: Callable[[], int]) -> float:
    """The groups that `work` does (it returns their number) per second of processor time."""
    started = time.process_time()
    groups = work()
    return groups / (time.process_time() - started)


def repeat(groups: Sequence[Group]) -> list[Group]:
    """The groups again and again under other names, up to the number of MDLP's groups."""
    return [replace(groups[i % len(groups)], name=str(i)) for i in range(MDLP)]


def read_all(source: Source) -> int:
    """Fetches every record."""
    for i in range(len(source)):
        source[i]
    return len(source)


def batches_of(source: Source, size: tuple[int, int], **options: Any) -> Iterator[dict]:
    """The training stream."""
    return iter(
        train_dataset(
            source, image_size=size, num_frames=3, global_batch_size=BATCH, seed=0, **options
        )
    )


def draw(batches: Iterator, count: int) -> int:
    """Takes batches; returns the number of groups in them."""
    for _ in range(count):
        next(batches)
    return count * BATCH


def torch_loader(source: TreeSource, size: tuple[int, int], as_float: bool) -> Iterator:
    """The customary loader over the JPEG tree: Pillow decodes and resizes, endlessly shuffled.

    As uint8 it makes what ours makes; `as_float` scales to [-1, 1] in NCHW, as is usual in PyTorch.
    """
    import torch
    from torch.utils.data import DataLoader, Dataset

    def load(path: Path) -> Any:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
        array = torch.from_numpy(np.array(resized))
        return (array.permute(2, 0, 1).float() / 255 - 0.5) / 0.5 if as_float else array

    class Groups(Dataset):
        def __len__(self) -> int:
            return len(source.groups)

        def __getitem__(self, index: int) -> dict:
            group = source.groups[index]
            frames = torch.stack([load(path) for path in group.frames])
            return {"frames": frames, "target": load(group.target), "index": index}

    torch.set_num_threads(1)
    loader = DataLoader(Groups(), BATCH, shuffle=True, drop_last=True)
    while True:
        yield from loader


def compare(ours: Iterator, theirs: Iterator | None, rounds: int, count: int) -> dict[str, float]:
    """Rates by turns, and the median of their ratios."""
    draw(ours, 3)
    if theirs is None:
        return {"ours": statistics.median(rate(lambda: draw(ours, count)) for _ in range(rounds))}
    draw(theirs, 3)
    pairs = [
        (rate(lambda: draw(ours, count)), rate(lambda: draw(theirs, count))) for _ in range(rounds)
    ]
    mine, others = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"ours": mine, "torch": others, "ratio": statistics.median(a / b for a, b in pairs)}


def resident_megabytes() -> float:
    """Memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory(batches: Iterator) -> Iterator[float]:
    """Resident megabytes after each 1,000 batches, without end."""
    while True:
        draw(batches, 1000)
        yield resident_megabytes()


def memory_by_clock(folder: Path, groups: int, minutes: float) -> Iterator[tuple[str, float]]:
    """As `memory`, of decoded shards at 48 x 96, for as long as that."""
    synthesize(folder / "raw", groups=groups, seed=0)
    splits = {"train": repeat(check_tree(folder / "raw").splits["train"])}
    write_shards(folder / "pixels", splits, decode=True, report=len)
    levels = memory(batches_of(open_source(folder / "pixels", "train"), SIZES["48 x 96"]))
    started = time.monotonic()
    for thousands, level in enumerate(levels, 1):
        elapsed = (time.monotonic() - started) / 60
        yield f"resident MB after {thousands},000 batches, {elapsed:.1f} minutes", level
        if elapsed >= minutes:
            return


def has_torch() -> bool:
    """Whether the PyTorch side can run."""
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed: its rows are left out")
        return False
    return True


def rows(folder: Path, groups: int, rounds: int, measurements: int) -> Iterator[tuple[str, Any]]:
    """All rows as they are measured; rates in groups per second and core."""
    raw, packed, pixels = folder / "raw", folder / "shards", folder / "pixels"
    yield "draw (synthetic)", rate(lambda: synthesize(raw, groups=groups, seed=0) or groups)
    yield "check", rate(lambda: len(check_tree(raw).splits["train"]))
    splits = {"train": repeat(check_tree(raw).splits["train"])}
    yield "write shards", rate(lambda: len(write_shards(packed, splits, report=len)) and MDLP)
    write_shards(pixels, splits, decode=True, report=len)
    tree, shards = TreeSource(splits["train"]), open_source(packed, "train")
    decoded = open_source(pixels, "train")
    for name, source in (("files", tree), ("shards", shards), ("decoded shards", decoded)):
        read = functools.partial(read_all, source)
        yield f"read {name}", statistics.median(rate(read) for _ in range(rounds))
    torch = has_torch()
    for name, size in SIZES.items():
        for kind, source in (("shards", shards), ("decoded shards", decoded)):
            for as_float in (False, True) if torch else (None,):
                theirs = None if as_float is None else torch_loader(tree, size, as_float)
                other = f", torch {'float32' if as_float else 'uint8'}" if torch else ""
                ours = batches_of(source, size)
                yield f"{name}, {kind}{other}", compare(ours, theirs, rounds, 20)
        augmented = batches_of(decoded, size, augment=AugmentConfig())
        yield f"{name}, decoded shards, augmented", compare(augmented, None, rounds, 20)
    levels = memory(batches_of(shards, SIZES["48 x 96"]))
    held = list(itertools.islice(levels, measurements))
    yield "resident MB after each 1,000 batches", held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=500, help="drawn, then repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=5, help="measurements of 1,000 batches")
    parser.add_argument("--minutes", type=float, help="measure memory alone, for so long")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.minutes is None:
            figures = rows(folder, args.groups, args.rounds, args.memory)
        else:
            figures = memory_by_clock(folder, args.groups, args.minutes)
        for name, value in figures:
            print(json.dumps({name: value}), flush=True)


if __name__ == "__main__":
    main()
