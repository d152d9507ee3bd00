"""What the experiments of all chapters have in common."""
