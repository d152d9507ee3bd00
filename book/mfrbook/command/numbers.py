"""Numbers among the options of a command line."""

import argparse


def positive_integer(text: str) -> int:
    """Read a whole number of 1 or more; ArgumentTypeError says what is allowed and what was given."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, given {text!r}")
    return number
