"""`palimpsest verify` and `budget`, the installed program, on what a real operator left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from integration.reconcile.harness import World

PROGRAMS = Path(sys.executable).parent
Done = subprocess.CompletedProcess[str]


def run(world: World, account: str, *arguments: str, program: str = "palimpsest") -> Done:
    """The program with an account's keys."""
    keys = world.object_store.credentials[account]
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        env={
            **os.environ,
            "KUBECONFIG": str(world.plane.kubeconfig),
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def verify(world: World, account: str = "custodian", *more: str) -> tuple[int, list[str]]:
    """Exit code and codes of a verification of the world's budget."""
    namespace = f"--operator-namespace={world.tenant}"
    done = run(world, account, "verify", world.budget, namespace, "-o", "json", *more)
    assert "Traceback" not in done.stderr, done.stderr
    (told,) = json.loads(done.stdout)["budgets"]
    return done.returncode, sorted({finding["code"] for finding in told["findings"]})


@contextmanager
def replaced(world: World, uri: str, data: bytes | None) -> Iterator[None]:
    """An object overwritten, or removed, by who may do everything; put back afterwards."""
    root = world.store("root")
    before = root.get(uri)
    if data is None:
        root.delete(uri)
    else:
        root.put(uri, data)
    try:
        yield
    finally:
        root.put(uri, before)


def entry(world: World, sequence: int) -> str:
    """The address of an entry of the world's journal."""
    return f"{world.journal().location}{sequence:012d}.json"


def released(world: World, name: str) -> str:
    """The address of a released file."""
    listed = world.store("root").list(f"s3://releases/{world.mark}/")
    return next(uri for uri in listed if uri.endswith(f"/{name}"))


def test_what_the_operator_left_is_sound(settled: World) -> None:
    done = run(
        *(settled, "custodian", "verify", settled.budget, "--files"),
        f"--operator-namespace={settled.tenant}",
        program="kubectl-palimpsest",
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{settled.budget}: sound" in done.stdout
    assert "releases  1, 1 signed receipts" in done.stdout


def test_a_head_that_was_noted_is_looked_for_by_name(settled: World) -> None:
    head = settled.journal().refresh().head
    assert head is not None
    noted = f"--head={head.sequence}:"
    assert verify(settled, "custodian", noted + head.digest) == (0, [])
    code, codes = verify(settled, "custodian", f"{noted}sha256:{'0' * 64}")
    assert (code, codes) == (1, ["J008"])


def test_keys_without_the_right_to_list_verify_too(settled: World) -> None:
    assert verify(settled, "operator") == (0, [])


def test_keys_that_open_no_journal_could_not_check(settled: World) -> None:
    assert verify(settled, "tenant") == (2, ["J010"])


def test_no_store_and_no_cluster_could_not_check(settled: World) -> None:
    code, codes = verify(settled, "custodian", "--endpoint=http://127.0.0.1:9")
    assert (code, codes) == (2, ["J010", "R006"])
    done = run(settled, "custodian", "verify", "--kubeconfig=/does/not/exist")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: no cluster")
    done = run(settled, "custodian", "verify", "no-such-budget")
    assert done.returncode == 2
    # Other tests' budgets may be named before it.
    assert settled.budget in done.stderr.partition("there is: ")[2]


def test_without_public_keys_receipts_could_not_be_checked(settled: World) -> None:
    done = run(settled, "custodian", "verify", settled.budget, "-o", "json")
    assert done.returncode == 2
    codes = [each["code"] for each in json.loads(done.stdout)["budgets"][0]["findings"]]
    assert set(codes) == {"R004"}


def test_an_edited_entry_is_found(settled: World) -> None:
    uri = entry(settled, 2)
    data = settled.store("root").get(uri)
    with replaced(settled, uri, data.replace(b'"attempt":1', b'"attempt":2')):
        code, codes = verify(settled)
    assert code == 1
    assert {"J004", "J005"} & set(codes)


def test_a_truncated_journal_is_found_by_status_and_receipt(settled: World) -> None:
    head = settled.journal().refresh().head
    assert head is not None
    with replaced(settled, entry(settled, head.sequence), None):
        code, codes = verify(settled)
    assert code == 1
    assert "J007" in codes


def test_edited_releases_are_found(settled: World) -> None:
    weights, manifest = (
        released(settled, "adapter_model.safetensors"),
        released(settled, "manifest.json"),
    )
    with replaced(settled, weights, b"other"):
        assert verify(settled) == (0, [])
        assert verify(settled, "custodian", "--files") == (1, ["M004"])
    data = settled.store("root").get(manifest)
    with replaced(settled, manifest, data.replace(b'"attempt":"1-test"', b'"attempt":"2-test"')):
        assert verify(settled) == (1, ["R002"])
    with replaced(settled, released(settled, "receipt.json"), None):
        assert verify(settled) == (2, ["R005"])


def test_an_edited_status_is_found(settled: World) -> None:
    before = settled.get("pb", settled.budget)["status"]["shares"]
    _shares(settled, {**before, "committed": "0.0001"})
    try:
        assert verify(settled) == (1, ["S001"])
    finally:
        _shares(settled, before)


def _shares(world: World, shares: dict[str, str]) -> None:
    patch = json.dumps({"status": {"shares": shares}})
    world.plane.kubectl(
        "patch", "pb", world.budget, "--subresource=status", "--type=merge", "-p", patch
    )


def test_offline_from_the_store_and_from_a_copy(settled: World, tmp_path: Path) -> None:
    endpoint = f"--endpoint={settled.object_store.endpoint}"
    for journal in (settled.private, settled.journal().location):
        done = run(settled, "custodian", "verify", f"--journal={journal}", endpoint)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    root = settled.store("root")
    for uri in root.list(settled.journal().location):
        (tmp_path / uri.rsplit("/", 1)[-1]).write_bytes(root.get(uri))
    saved = tmp_path.with_suffix(".yaml")
    saved.write_text(yaml.safe_dump(settled.get("pb", settled.budget)))
    done = run(settled, "tenant", "verify", f"--journal={tmp_path}", f"--budget-file={saved}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_worst_of_several_budgets_decides(settled: World) -> None:
    second = settled.privacy_budget()
    second["metadata"]["name"] = f"{settled.budget}-never-opened"
    second["spec"]["dataset"]["uri"] = f"s3://private/{settled.mark}-never-opened/"
    settled.apply(second)
    names = [settled.budget, second["metadata"]["name"]]
    namespace = f"--operator-namespace={settled.tenant}"
    try:
        done = run(settled, "custodian", "verify", *names, namespace, "-o", "json")
        told = json.loads(done.stdout)
        verdicts = {each["name"]: each["verdict"] for each in told["budgets"]}
        assert verdicts == {names[0]: "sound", names[1]: "unchecked"}
        assert (done.returncode, told["verdict"]) == (2, "unchecked")
        with replaced(settled, entry(settled, 1), b"{}"):
            done = run(settled, "custodian", "verify", *names, namespace, "-o", "json")
        assert (done.returncode, json.loads(done.stdout)["verdict"]) == (1, "unsound")
    finally:
        settled.plane.kubectl("delete", "pb", names[1], "--wait=false")


@pytest.mark.parametrize("account", ["custodian", "tenant"])
def test_the_budget_is_shown_to_whoever_may_see_it(settled: World, account: str) -> None:
    done = run(settled, account, "budget", settled.budget)
    assert done.returncode == 0, done.stderr
    assert f"PrivateGenerator/{settled.tenant}/questions" in done.stdout
    assert "Would still fit: " in done.stdout
    assert "24 steps" in done.stdout or "32 steps" in done.stdout
    plotted, alone = "solid committed" in done.stdout, "The status alone" in done.stdout
    assert (plotted, alone) == ((True, False) if account == "custodian" else (False, True))
    listed = run(settled, account, "budget")
    assert settled.budget in listed.stdout
    assert "WOULD STILL FIT" in listed.stdout
