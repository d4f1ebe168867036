"""The systems that the published table compares LP-Diff with, one file each."""
