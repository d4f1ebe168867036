"""Synthetic MDLP: plates drawn from their text, seen by a camera far away."""
