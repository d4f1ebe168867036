"""Data in numpy alone: the MDLP tree, its shards, synthetic plates, and the grain pipeline."""
