"""Clusters side by side get networks and stores of their own."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest
from cluster import state
from cluster.report import ClusterError


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(state, "REPOSITORY", tmp_path / "checkout")
    monkeypatch.setattr(state, "_host_networks", list)


def test_two_clusters_share_neither_network_nor_image_store() -> None:
    first, locks = state.choose()
    second, more = state.choose()
    assert first.network != second.network
    assert first.runtime != second.runtime
    for handle in locks + more:
        os.close(handle)
    again, handles = state.choose()
    assert (again.network, again.runtime) == (first.network, first.runtime)
    for handle in handles:
        os.close(handle)


def test_a_network_of_the_host_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, locks = state.choose()
    for handle in locks:
        os.close(handle)
    taken = ipaddress.IPv4Network(first.whole_cidr)
    monkeypatch.setattr(state, "_host_networks", lambda: [taken])
    second, locks = state.choose()
    assert not ipaddress.IPv4Network(second.whole_cidr).overlaps(taken)
    for handle in locks:
        os.close(handle)


def test_the_parts_of_a_network_do_not_overlap() -> None:
    cluster = state.Cluster(Path("/somewhere"), 70, Path("/elsewhere"))
    parts = [
        ipaddress.IPv4Network(cluster.pod_cidr),
        ipaddress.IPv4Network(cluster.addresses.service_cidr),
        ipaddress.IPv4Network(f"{cluster.host_address}/30", strict=False),
    ]
    whole = ipaddress.IPv4Network(cluster.whole_cidr)
    assert all(part.subnet_of(whole) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
    services = parts[1]
    for address in (cluster.dns_address, cluster.store_address, cluster.addresses.first_service):
        assert ipaddress.IPv4Address(address) in services
    assert len(cluster.link) <= 15


def test_the_state_survives_being_saved() -> None:
    cluster, locks = state.choose()
    cluster.save()
    assert state.load() == cluster
    for handle in locks:
        os.close(handle)


def test_a_second_command_is_told_of_the_first() -> None:
    with (
        state.command_lock(),
        pytest.raises(ClusterError, match="wait for it"),
        state.command_lock(),
    ):
        pass
