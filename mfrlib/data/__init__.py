"""Sources of batches: synthetic data, EEG, text."""
