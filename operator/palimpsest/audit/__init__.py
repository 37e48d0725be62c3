"""Verification: what journals, statuses, receipts and manifests say, held against each other.

Pure: bytes and models in, findings out. Only `reference` starts a process.
"""
