"""What the figures and tables of all chapters have in common."""
