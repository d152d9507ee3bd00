"""What MFR is held against on EEG: baselines of more steps, and other regularisers."""
