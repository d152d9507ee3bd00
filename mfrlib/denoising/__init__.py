"""Artefacts taken out of EEG by SAEs."""
