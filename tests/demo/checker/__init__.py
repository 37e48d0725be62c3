"""Recomputes what the pipeline claims from the buckets alone.

Shares no code with the product: nothing here imports `palimpsest` or `palimpsest_stage`. Private
records are never opened.
"""
