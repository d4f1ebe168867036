"""Networks of the five systems that the published table compares with LP-Diff.

All are written from the papers and from a description of what the public programs compute. Images
are NHWC. Where a network adds "the input" to its output, it adds the input's last three channels:
a system that sees several frames stacks them in channels, the nearest one last.
"""
