"""Artefacts taken out of EEG by SAEs and by classical methods."""
