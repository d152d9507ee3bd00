"""The language model that comes with `mfrlib`."""
