"""Why a receipt or a key is not accepted. Messages say what is wrong and what helps."""


class ReceiptInvalid(Exception):  # noqa: N818 - a finding, not a fault
    """A receipt is not what this operator would have signed."""


class KeyUnusable(ValueError):  # noqa: N818 - a condition, named as the statuses name it
    """A folder holds no signing key, or a key that cannot be used."""
