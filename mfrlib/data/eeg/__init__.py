"""EEG: EDF files and simulated recordings as windows."""
