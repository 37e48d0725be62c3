"""Receipts: what leaves custody carries a signed statement of what it is and what paid for it."""

from palimpsest.receipts.errors import KeyUnusable, ReceiptInvalid

__all__ = ["KeyUnusable", "ReceiptInvalid"]
