"""Many starts on one data set: how well each metric of inactivity tells, step by step, what an SAE becomes (S10)."""
