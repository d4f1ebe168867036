"""Evaluation: image metrics, perceptual metrics, reading, and the report."""
