"""Section 4.1 of the MFR paper: the first MLP of GPT-2 Small."""
