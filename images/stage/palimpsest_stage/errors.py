"""Failures that a stage turns into one outcome of the closed set."""

import errno

from palimpsest.api.outcomes import Outcome
from palimpsest.api.shortage import Shortage


class Interrupted(BaseException):
    """SIGTERM arrived. Not an Exception: no handler on the way may take it for a record's fault."""


class StageError(Exception):
    """A stage cannot go on. From a private stage the text reaches the custodian's report only."""


class InvalidTask(StageError):  # noqa: N818 - named as the outcome is
    """The task document is wrong or disagrees with the journal."""


class InputMismatch(StageError):  # noqa: N818 - named as the outcome is
    """A public input is not the one that was declared."""


class ChargeRefused(StageError):  # noqa: N818 - named as the outcome is
    """The journal accepts no further start or block, or a checkpoint that it implies is lost."""


class ModelUnsuitable(StageError):  # noqa: N818 - named as the outcome is
    """The model cannot be used here."""


class ModelTooLarge(StageError):  # noqa: N818 - an event, named as it is told
    """A model needs more memory than there is, before any of its weights was fetched."""

    def __init__(self, shortage: Shortage) -> None:
        super().__init__(shortage.told())
        self.shortage = shortage


class NoRoom(OSError):  # noqa: N818 - an event, named as it is told
    """A model's files need more room than there is, before they were written."""

    def __init__(self, needs: int, has: float) -> None:
        self.shortage = Shortage(what="Scratch", needs=needs, has=int(has))
        super().__init__(errno.ENOSPC, f"a model is larger than the volume: {self.shortage.told()}")


class AuditFailed(StageError):  # noqa: N818 - named as the outcome is
    """The noised gradients of this very training refute the epsilon that it claims."""


class DatasetUnsuitable(StageError):  # noqa: N818 - an outcome, named as it is told
    """A public data set holds no example that can be learnt from."""


class EndpointFailed(StageError):  # noqa: N818 - an event, named as it is told
    """An endpoint answers no more, or not so that asking again would help."""

    def __init__(self, outcome: Outcome, seen: str) -> None:
        super().__init__(f"{outcome.value}: {seen}")
        self.outcome = outcome


class Diverged(StageError):  # noqa: N818 - named as the outcome is
    """An alignment's policy ran away from its base model, or its loss is no number."""


class PeerLost(StageError):  # noqa: N818 - an event, named as it is told
    """Another rank of the training is gone, silent or at odds; the attempt ends."""


def exhausted(error: BaseException) -> bool:
    """Whether memory or room ran out."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
    # torch raises a plain RuntimeError when the allocator fails.
    return isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("can't allocate memory", "out of memory")
    )
