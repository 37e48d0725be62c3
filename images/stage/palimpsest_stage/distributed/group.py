"""What the ranks of a training do together. Rank 0 leads: it alone writes, adds noise and steps.

Every call is made by all ranks in the same order and raises PeerLost on each rank that is left
once one is gone or silent: none goes on with fewer.
"""

from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Group(Protocol):
    """All ranks, as one of them sees them."""

    @property
    def rank(self) -> int:
        """This process's number."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""

    @property
    def first_in_pod(self) -> bool:
        """Whether this is the first of its pod, which fetches what the others share."""

    def barrier(self) -> None:
        """Wait for all."""

    def broadcast(self, tensor: "Tensor") -> "Tensor":
        """The leader's tensor; the others give one of the same shape and type."""

    def broadcast_number(self, number: int) -> int:
        """The leader's number."""

    def reduce(self, tensor: "Tensor") -> "Tensor":
        """The sum over all ranks, at the leader; of no meaning elsewhere."""

    def reduce_number(self, number: int) -> int:
        """Likewise."""

    def reduce_counts(self, counts: Counter[str]) -> Counter[str]:
        """Likewise, key by key."""

    def agree(self, digest: bytes) -> None:
        """Raises PeerLost unless all ranks' digests are the leader's."""


class Alone:
    """A training on one process."""

    rank, size, leads, first_in_pod = 0, 1, True, True

    def barrier(self) -> None:
        """Nobody to wait for."""

    def broadcast(self, tensor: "Tensor") -> "Tensor":
        """The tensor itself."""
        return tensor

    def broadcast_number(self, number: int) -> int:
        """The number itself."""
        return number

    def reduce(self, tensor: "Tensor") -> "Tensor":
        """The tensor itself."""
        return tensor

    def reduce_number(self, number: int) -> int:
        """The number itself."""
        return number

    def reduce_counts(self, counts: Counter[str]) -> Counter[str]:
        """The counts themselves."""
        return counts

    def agree(self, digest: bytes) -> None:
        """Nobody to disagree with."""


ALONE = Alone()
