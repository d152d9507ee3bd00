"""The command `mfr`: what it takes, what each of its commands does, and how it speaks to a terminal."""
