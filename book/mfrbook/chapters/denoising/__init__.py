"""EEG denoising, which the MFR paper announces."""
