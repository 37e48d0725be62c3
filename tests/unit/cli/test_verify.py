"""`palimpsest verify` on what was saved: verdicts, exit codes, bad input."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from palimpsest.cli.main import commands
from unit.audit.ground import MemoryStore, folder, name, opened, resource
from unit.cli.ground import Saved, save

PALIMPSEST = Path(sys.executable).with_name("palimpsest")


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return save(tmp_path)


def verify(*arguments: object, **env: str | None) -> Result:
    keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "KUBECONFIG": "/none"}
    return CliRunner(env={**keys, **env}).invoke(commands, ["verify", *map(str, arguments)])


def codes(done: Result) -> list[str]:
    return [
        finding["code"]
        for budget in json.loads(done.stdout)["budgets"]
        for finding in budget["findings"]
    ]


def test_what_was_saved_is_sound(saved: Saved) -> None:
    done = subprocess.run(
        [PALIMPSEST, "verify", *saved.options()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == "chat: sound"
    text = "\n".join(rest)
    assert f"head {len(saved.made.objects) - 1}:sha256:" in text
    assert "1, 1 signed receipts" in text
    assert "(PLD)" in text
    assert "valid if charge parameters were chosen without seeing earlier releases" in text


def _status(saved: Saved) -> None:
    saved.budget(resource(saved.made.state, gateOrder=7))


def _shorter(saved: Saved) -> None:
    (saved.journal / name(len(saved.made.objects) - 1)).unlink()


def _weights(saved: Saved) -> None:
    (saved.release / "attempts/1-x/adapter_model.safetensors").write_bytes(b"other")


def _others(saved: Saved) -> None:
    store = MemoryStore()
    other = "s3://private/other/"
    opened(store, other)
    shutil.rmtree(saved.journal)
    saved.journal.mkdir()
    for file, data in folder(store, other).items():
        (saved.journal / file).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_status, "S001"),
        (_shorter, "J007"),
        (_weights, "M004"),
        (_others, "J006"),
        (lambda saved: (saved.journal / name(2)).write_bytes(b"{}"), "J003"),
        (lambda saved: (saved.journal / "notes.txt").write_text("x"), "J001"),
        (lambda saved: (saved.journal / "folder").mkdir(), "J001"),
        (lambda saved: (saved.release / "manifest.json").write_bytes(b"{}"), "M001"),
        (lambda saved: (saved.release / "manifest.json").unlink(), "R003"),
        (lambda saved: (saved.release / "receipt.json").write_bytes(b"{}"), "R001"),
    ],
)
def test_every_kind_of_evidence_counts(
    saved: Saved, spoil: Callable[[Saved], object], expected: str
) -> None:
    spoil(saved)
    done = verify(*saved.options(), "-o", "json")
    assert done.exit_code == 1
    assert expected in codes(done)
    assert json.loads(done.stdout)["verdict"] == "unsound"


def test_a_finding_is_a_line_with_code_place_and_remedy(saved: Saved) -> None:
    (saved.journal / "notes.txt").write_text("x")
    done = verify(f"--journal={saved.journal}")
    assert done.stdout.splitlines()[-1] == (
        f"J001 unsound {saved.journal}/notes.txt: is no entry of a journal; move it out of the "
        "journal's folder"
    )


def test_a_noted_head_finds_a_truncation(saved: Saved) -> None:
    head = saved.made.state.head
    assert head is not None
    noted = f"--head={head.sequence}:{head.digest}"
    assert verify(f"--journal={saved.journal}", noted).exit_code == 0
    _shorter(saved)
    assert verify(f"--journal={saved.journal}").exit_code == 0
    assert verify(f"--journal={saved.journal}", noted).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--journal=/does/not/exist"], "J010"),
        (["--journal=s3://private/chat/", "--endpoint=http://127.0.0.1:9"], "J010"),
    ],
)
def test_what_cannot_be_read_is_exit_code_two(arguments: list[str], expected: str) -> None:
    done = verify(*arguments, "-o", "json")
    assert done.exit_code == 2
    assert codes(done) == [expected]


def test_an_unreachable_store_is_exit_code_two() -> None:
    done = verify(
        *("--journal=s3://private/chat/", "--endpoint=http://127.0.0.1:9", "-o", "json"),
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
    )
    assert (done.exit_code, codes(done)) == (2, ["J010"])


def test_a_receipt_without_a_release_nor_a_key(saved: Saved) -> None:
    arguments = [each for each in saved.options() if not each.startswith("--keys")]
    done = verify(*arguments, "-o", "json")
    assert (done.exit_code, codes(done)) == (2, ["R004"])


def test_without_the_second_accountant(saved: Saved, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "dp_accounting.py").write_text("raise ModuleNotFoundError('dp_accounting')")
    done = subprocess.run(
        [PALIMPSEST, "verify", f"--journal={saved.journal}"],
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "A004 unchecked" in done.stdout
    assert "pip install dp-accounting" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--journal=s3://Private/chat/"], "--journal"),
        (["--journal=s3://private/"], "--journal"),
        (["--journal=s3://private/a%2fb/"], "--journal"),
        (["--journal=s3://private/.palimpsest/chat/"], "--journal"),
        (["--journal=gs://private/chat/"], "--journal"),
        (["--journal=x", "chat"], "not both"),
        (["--journal=x", "--head=1"], "--head"),
        (["--journal=x", "--head=٣:sha256:" + "0" * 64], "--head"),
        (["--journal=x", "--head=" + "9" * 10_000], "--head"),
        (["--journal=x", "--endpoint=127.0.0.1"], "--endpoint"),
        (["--journal=x", "--keys=/does/not/exist"], "/does/not/exist"),
        (["--journal=x", "--budget-file=/does/not/exist"], "/does/not/exist"),
        (["--journal=x", "--releases=/does/not/exist"], "--releases-uri"),
        (["--journal=x", "--releases=/none", "--releases-uri=s3://r/x/"], "--releases"),
        (["--journal=x", "--releases=gs://r/x/"], "no keys"),
        (["--head=1:sha256:" + "0" * 64], "one BUDGET"),
        (["one", "two", "--head=1:sha256:" + "0" * 64], "one BUDGET"),
        (["--files", "--kubeconfig=/does/not/exist"], "kubeconfig"),
        (["--kubeconfig=/dev/null"], "no cluster"),
        (["chat", "--context=none"], "no cluster"),
        (["-o", "xml"], "xml"),
    ],
)
def test_bad_options_are_named_and_never_a_traceback(arguments: list[str], named: str) -> None:
    done = verify(*arguments)
    assert done.exit_code == 2
    assert named in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    assert max(map(len, done.output.splitlines())) < 12_000


@pytest.mark.parametrize(
    "text",
    ["", "[", "a: *b", "kind: Secret", "\x00", "[" * 5_000, "kind: PrivacyBudget", "kind: [x]"],
)
def test_bad_budget_files(saved: Saved, text: str) -> None:
    (saved.folder / "budget.yaml").write_text(text)
    done = verify(f"--journal={saved.journal}", f"--budget-file={saved.folder / 'budget.yaml'}")
    assert done.exit_code == 2
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_a_status_of_another_version_is_said_so(saved: Saved) -> None:
    saved.budget(resource(saved.made.state, flavour="new"))
    done = verify(*saved.options(), "-o", "json")
    assert (done.exit_code, codes(done)) == (2, ["S004", "S003"])


def test_kubectls_plugin_is_the_same_program(tmp_path: Path) -> None:
    plugin = PALIMPSEST.with_name("kubectl-palimpsest")
    done = subprocess.run([plugin, "verify", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: kubectl palimpsest verify ")
    own = subprocess.run([PALIMPSEST, "--help"], capture_output=True, text=True, check=False)
    assert own.stdout.startswith("Usage: palimpsest ")
    for command in ("budget", "plan", "verify"):
        assert f"\n  {command} " in own.stdout
