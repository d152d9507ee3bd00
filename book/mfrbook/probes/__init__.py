"""Probes: tiny runs of every experiment whose numbers are committed, so that behaviour, not source text, decides validity.

An archived run stands for what today's code would compute as long as its experiment's probes give the committed
numbers. A probe runs the experiment's own `run`, at a size of seconds, on inputs that never change (`inputs`); `cases`
lists the probes, `record` turns a run into numbers, `compare` judges them, `recompute` does all of them in two processes.
"""
