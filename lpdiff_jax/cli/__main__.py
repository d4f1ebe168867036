"""`python -m lpdiff_jax.cli`: the same as `lpdiff`."""

import sys

from lpdiff_jax.cli import main

sys.exit(main())
