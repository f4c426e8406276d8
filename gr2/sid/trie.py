"""Which code may come next: an exact prefix trie over the ids that exist (ours; OneRec-Think has the like)."""

from collections.abc import Iterable, Sequence

Codes = tuple[int, ...]


class Trie:
    """All prefixes of a set of ids of one length. An empty answer never means "anything goes": it is never given."""

    def __init__(self, codes: Iterable[Sequence[int]]) -> None:
        """`codes` is (N, L), N >= 1; raises ValueError when it is empty or of mixed lengths."""
        self.ids: frozenset[Codes] = frozenset(tuple(int(c) for c in row) for row in codes)
        if not self.ids:
            raise ValueError("a trie needs at least one id")
        if len({len(row) for row in self.ids}) > 1:
            raise ValueError("all ids of a trie have one length")
        children: dict[Codes, set[int]] = {}
        for row in self.ids:
            for level, code in enumerate(row):
                children.setdefault(row[:level], set()).add(code)
        self._next = {prefix: tuple(sorted(codes)) for prefix, codes in children.items()}

    def allowed(self, prefix: Codes) -> Codes:
        """The codes that may follow `prefix`, sorted, at least one.

        Raises ValueError when no id starts with `prefix`, or when it is a whole id already.
        """
        try:
            return self._next[prefix]
        except KeyError:
            reason = "is a whole id" if prefix in self.ids else "starts no id"
            raise ValueError(f"prefix {prefix} {reason}") from None

    def restrict(self, codes: Iterable[Sequence[int]]) -> "Trie":
        """The trie of only these ids, such as a slate's candidates.

        Raises ValueError when `codes` is empty or holds an id that this trie lacks.
        """
        kept = Trie(codes)
        if unknown := kept.ids - self.ids:
            raise ValueError(f"not in the trie: {min(unknown)}")
        return kept
