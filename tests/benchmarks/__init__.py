"""Times training beside four other libraries; `python -m tests.benchmarks` (or `make bench`) runs it."""
