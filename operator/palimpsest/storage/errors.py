"""What can go wrong with an object store. Messages name bucket and key, never contents."""


class StoreError(Exception):
    """An object store did not do what was asked."""


class NotFound(StoreError):  # noqa: N818 - a condition, named as the store names it
    """The object or its bucket does not exist."""


class AccessDenied(StoreError):  # noqa: N818 - a condition, named as the store names it
    """The store refused these credentials."""


class StoreUnavailable(StoreError):  # noqa: N818 - a condition, named as the store names it
    """No usable answer: after a write it is unknown whether the store took it."""


class ConditionalWritesUnsupported(StoreError):  # noqa: N818 - a condition, named as the store names it
    """The store overwrote an object that it was told to create only if absent."""
