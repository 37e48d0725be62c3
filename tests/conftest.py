"""Fixtures that every test folder may use."""

from cluster.fixtures import control_plane, object_store

__all__ = ["control_plane", "object_store"]
