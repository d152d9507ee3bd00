"""Our SAEs in other libraries and theirs in ours, for real: each library in an environment of its own below `.bench/`."""
