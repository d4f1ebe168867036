"""The data sets that a configuration names, or the synthetic one that it asks for."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from data_pipeline.files import local_path
from data_pipeline.mixing import open_mix
from data_pipeline.sources import Source, open_source
from data_pipeline.synthetic.groups import synthesize


def open_sources(config: ConfigDict, workdir: Path) -> tuple[Source, Source]:
    """The training and the validation source of `config.data`.

    Where `config.sources` names any, these are trained on, and the root serves validation alone.
    """
    sections = config.get("sources")
    root = data_root(config, workdir)
    if not sections:
        return open_source(root, "train"), open_source(root, "val")
    mix = open_mix(sections.to_dict(), config.num_frames, config.synthetic.seed)
    return mix, open_source(root, "val")


def data_root(config: ConfigDict, workdir: Path) -> Path:
    """`config.root`, or else the synthetic set below the work directory, drawn if it is not there.

    Returns:
      A directory that `open_source` opens.
    """
    if config.root:
        return local_path(config.root)
    root = workdir / "data"
    wanted = config.synthetic
    for split, groups in (("train", wanted.groups), ("val", wanted.val_groups)):
        if split == "train" and config.get("sources"):
            continue
        if not (root / split).exists():
            print(f"drawing {groups} synthetic groups for {split} in {root}", flush=True)
            synthesize(
                root,
                groups=groups,
                seed=wanted.seed,
                split=split,
                num_frames=config.num_frames,
                preset=wanted.preset,
                styles=tuple(wanted.get("styles", ())),
                workers=os.cpu_count() or 1,
            )
    return root
