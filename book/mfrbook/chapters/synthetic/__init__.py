"""Section 3 of the MFR paper: synthetic data with known features."""
