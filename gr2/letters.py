"""Letters that UTF-8 cannot write."""


def whole_letters(text: str) -> str:
    """Half an emoji, as programs that cut text by 16-bit units leave it and JSON may spell it (an unpaired surrogate),
    is no letter: `?` in its place."""
    return text.encode("utf-8", "replace").decode("utf-8")
