"""Which records are a rank's own: a partition, so that no record is sampled by two ranks."""

import hashlib


class Shard:
    """The records whose place in the listing is the rank, modulo the number of ranks.

    The rule is public. All ranks read all records: `seen` tells whether they saw the same ones in
    the same order, without which a record could have been in two shards.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self._size = rank, size
        self._next = 0
        self._records = hashlib.sha256()

    def takes(self, text: str | None) -> bool:
        """Whether the next record is this rank's; ask once for each, in order.

        None for one that has no text and contributes nothing.
        """
        place, self._next = self._next, self._next + 1
        data = (text or "").encode()
        # A text without its length could end where another begins.
        self._records.update(f"{-1 if text is None else len(data)}:".encode() + data)
        return place % self._size == self.rank

    def seen(self) -> bytes:
        """Digest of all records so far. It stays among the ranks."""
        return self._records.digest()
