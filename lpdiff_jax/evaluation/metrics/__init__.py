"""Metrics of images and of sets of images."""
