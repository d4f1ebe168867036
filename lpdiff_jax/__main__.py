"""`python -m lpdiff_jax` is the `lpdiff` command."""

from lpdiff_jax.cli import program

if __name__ == "__main__":
    program()
