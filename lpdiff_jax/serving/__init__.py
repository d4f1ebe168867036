"""Restoring plates from a web page, or over HTTP."""
