"""How good a ranking is, how sure we are of it, and how it came about."""
