"""The empirical audit of a training by gradient canaries (docs/audit.md). Only custody runs it."""
