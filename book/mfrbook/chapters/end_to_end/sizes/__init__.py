"""End-to-end SAEs at other sizes: fewer features, more tokens, a real model."""
