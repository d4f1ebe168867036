"""Evaluates a trained model: `python eval.py --config configs/X.py --workdir DIR [--data ROOT]`.

The same as `lpdiff eval`; lpdiff_jax/cli/eval.py explains it.
"""

import sys

from lpdiff_jax.cli.eval import main

if __name__ == "__main__":
    main(sys.argv[1:])
