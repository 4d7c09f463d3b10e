"""The pickle machine, and what is found in what it reads."""
