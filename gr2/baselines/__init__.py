"""Legacy re-rankers, on the same slates as the language model."""
