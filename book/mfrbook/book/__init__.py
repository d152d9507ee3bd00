"""The book: notebooks, plan of runs, pages, and the command `mfr`."""
