"""Files for other programs: StableHLO and ONNX."""
