r"""The packaged model: networks cheap enough for CPU cores, drawn plates and pictures of real ones.

    lpdiff locate FOLDER    # once for each folder of PICTURES
    python train.py --config configs/pretrained.py:PICTURES --workdir runs/pretrained

PICTURES is one folder of clean plates with `labels.json`, or several with commas between them
(`data_pipeline/synthetic/pictures.py`); of the first, 200 texts are held out, and shown by none of
the others. Without any (`--config configs/pretrained.py`) all plates are drawn. Nothing lies on a
disk but the validation set: every group is new, and of more than one kind of camera, lettering and
light, for plates that look all alike teach a model to read these alone.

Cost: the psi stage sees 3.2 million groups, and makes 0.82 steps/s on one core of an AMD EPYC
(AVX-512), so 34 hours; two cores made 1.65 times as many steps before. The sketch makes 1.3 steps/s
and the diffusion 1.2 on one: three hours more. It has not been run to its end: the model card says
what the packaged weights have seen.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import compact

# Shares of the cameras; that of groups without colour is 13 % in each.
_CAMERAS = {"real-like": 0.45, "varied": 0.3, "real-like-1": 0.25}
_GREY = {"grey": (-7.0, 1.0)}
# What plates are made of, and its share where there are pictures.
_AS_THEY_ARE, _SET_ANEW, _DRAWN, _UNIFORM = 0.44, 0.22, 0.17, 0.17
_HELD_OUT = 200


def get_config(pictures: str = "") -> ConfigDict:
    """The compact configuration, grown where reading gains by it.

    Args:
      pictures: folders of clean plates, with commas between them.
    """
    config = compact.get_config()
    config.data.synthetic.update(val_groups=500, preset="real-like")
    config.data.sources = ConfigDict(get_sources([p for p in pictures.split(",") if p]))
    # The camera does most; twice as much kept the head from learning (docs/training.md).
    config.data.augment.update(
        rotation=1.5, scale=0.06, shift=0.02, contrast=0.2, brightness=0.1, noise=0.08, blur=0.08,
        erase=0.02, drop=0.05,
    )  # fmt: skip
    config.model.condition.update(
        features=(32, 64, 128), straightener=24, detail=96, detail_blocks=2
    )
    config.model.reader.layers = 4
    config.model.denoiser.update(features=32, blocks=1)
    config.model.sketch.update(layers=2, text="likeliest")
    config.sampler.start = 0.35
    config.stages = ("psi", "sketch", "diffusion")
    config.psi.update(
        steps=100_000,
        optimizer="muon",
        learning_rate=7e-4,
        warmup_steps=100,
        ema_decay=0.9995,
        reading_weight=1.0,
        place_weight=3.0,
    )
    config.sketch.update(steps=4_000)
    config.diffusion.update(steps=8_000, learning_rate=1e-3, warmup_steps=100, ema_decay=0.995)
    return config


def get_sources(folders: list[str]) -> dict[str, dict[str, Any]]:
    """The sources of the training stream; see `data_pipeline/mixing.py`."""
    sources = {}
    for camera, share in _CAMERAS.items():
        common = {"preset": camera, "camera": dict(_GREY)}
        drawn = {"kind": "drawn", **common}
        sources[f"drawn_{camera}"] = drawn | {"weight": share * _DRAWN}
        sources[f"uniform_{camera}"] = drawn | {
            "weight": share * _UNIFORM,
            "uniform": True,
            "styles": ("cn-blue", "cn-green"),
            "letters": "varied",
        }
        for number, folder in enumerate(folders):
            picture = {"kind": "pictures", "path": folder, **common}
            picture["held_out"] = 0 if number else _HELD_OUT
            each = share / len(folders)
            sources[f"pictures_{number}_{camera}"] = picture | {"weight": each * _AS_THEY_ARE}
            if not number:
                sources[f"anew_{camera}"] = picture | {
                    "weight": share * _SET_ANEW,
                    "recombine": 0.85,
                    "colours": {"blue": 0.7, "green": 0.14, "yellow": 0.08, "white": 0.08},
                }
    return sources
