"""Sections 4.2 and 4.3 of the MFR paper: EEG."""
