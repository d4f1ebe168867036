"""Evaluates a trained model: `python eval.py --config configs/X.py --workdir DIR [--data ROOT]`.

The same as `lpdiff eval`; lpdiff_jax/cli/eval.py explains it.
"""

import sys

from lpdiff_jax.cli.endings import work_of_program
from lpdiff_jax.cli.eval import main

if __name__ == "__main__":
    with work_of_program():
        main(sys.argv[1:])
