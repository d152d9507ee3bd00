"""Where recordings come from that are no folder of the user's: a simulation, public data; and what is asked of single recordings."""
