"""The companion of `mfrlib`: the papers' experiments, their tables, figures and claims, and the book."""
