"""Trains a method: `python train.py --config configs/X.py --workdir DIR [--config.a.b=c]`.

The same as `lpdiff train`; lpdiff_jax/cli/train.py explains it.
"""

import sys

from lpdiff_jax import allocator

if __name__ == "__main__":
    allocator.settle(sys.argv[1:])  # before what takes long to import
    from lpdiff_jax.cli.endings import work_of_program
    from lpdiff_jax.cli.train import main

    with work_of_program():
        main(sys.argv[1:])
