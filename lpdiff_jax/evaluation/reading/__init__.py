"""Reading plates: recognisers, fusion, calibration."""
