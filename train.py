"""Trains a method: `python train.py --config configs/X.py --workdir DIR [--config.a.b=c]`.

The same as `lpdiff train`; lpdiff_jax/cli/train.py explains it.
"""

import sys

from lpdiff_jax.cli.train import main

if __name__ == "__main__":
    main(sys.argv[1:])
