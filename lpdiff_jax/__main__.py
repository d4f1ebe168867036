"""`python -m lpdiff_jax` is the `lpdiff` command."""

import sys

from lpdiff_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
