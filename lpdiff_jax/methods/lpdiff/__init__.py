"""LP-Diff (Gong et al., CVPR 2025)."""
