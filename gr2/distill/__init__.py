"""Smaller models from larger ones: on-policy distillation of thinking, listwise distillation of ranking at once."""
