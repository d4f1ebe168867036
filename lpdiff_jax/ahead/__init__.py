"""Ahead of time: programs compiled for accelerators that are not here, and what they will cost."""
