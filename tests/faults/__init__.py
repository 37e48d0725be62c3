"""Faults for tests to inject: a store that misbehaves, processes that die between two calls."""
