"""A price on long answers, before they are cut off (DAPO, soft overlong punishment)."""


def overlong(tokens: int, *, longest: int, soft: int) -> float:
    """0 up to `longest - soft` tokens, then a straight line down to -1 at `longest`; `soft` = 0 switches it off."""
    return -min(1.0, max(0, tokens - (longest - soft)) / soft) if soft else 0.0
