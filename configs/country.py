"""Plates of another country, from nothing: drawn by a style, a reading head of its characters.

    python train.py --config configs/country.py:eu-france --workdir runs/france
    python train.py --config configs/country.py:my_style.json,compact --workdir runs/mine

The first part is a built-in style (eu-france, br-mercosur, cn-hongkong, ...) or a style file
(docs/synthetic.md); the second the size: quickstart (if not given) or compact. One command draws
the plates, trains, and evaluates. What quickstart reaches is in docs/tutorials/country.md.
"""

from ml_collections import ConfigDict

from configs import compact, quickstart
from data_pipeline.errors import DataError
from data_pipeline.synthetic.styles import load_style
from data_pipeline.synthetic.texts import alphabet

SIZES = {"quickstart": quickstart, "compact": compact}


def get_config(argument: str = "eu-france") -> ConfigDict:
    """A configuration for the plates of one style.

    Args:
      argument: the style, or "style,size".

    Raises:
      DataError: there is no such style or size, or the style's file is wrong.
    """
    name, _, size = argument.partition(",")
    style = load_style(name)
    if size and size not in SIZES:
        raise DataError(f"{size!r}: no such size; choose of {', '.join(SIZES)}")
    config = SIZES[size or "quickstart"].get_config()
    config.data.synthetic.styles = (name,)
    config.model.reader.charset = alphabet(style)
    config.model.reader.slots = len(style.boxes)
    return config
