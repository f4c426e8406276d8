"""GR2: an open generative reasoning re-ranker."""

__version__ = "0.1.0"
