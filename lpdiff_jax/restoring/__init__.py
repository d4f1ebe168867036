"""Restoring plates with a trained model."""
