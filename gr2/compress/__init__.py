"""The context compressor: a long history in, a short one out (P2 §5)."""
