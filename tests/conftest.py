"""Fixtures and options that every test folder may use."""

import pytest
from cluster.fixtures import STORE_OPTION, control_plane, object_store

__all__ = ["control_plane", "object_store", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which object store the tests run against."""
    parser.addoption(
        STORE_OPTION,
        choices=("versitygw", "minio"),
        default="versitygw",
        help="the S3 server that the tests start (default: versitygw)",
    )
