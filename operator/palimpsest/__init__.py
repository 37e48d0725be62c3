"""Palimpsest: private instructions in, differentially private synthetic instructions out."""

__version__ = "0.1.0"
