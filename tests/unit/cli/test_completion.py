"""Shell completion: the script that bash runs, and what kubectl is answered."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from palimpsest.cli.completion import answer
from palimpsest.cli.main import commands

PROGRAMS = Path(sys.executable).parent


def bash(*words: str) -> list[str]:
    """What bash completes the last word to."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        "source <(palimpsest completion bash); complete -p palimpsest >&2;"
        f" COMP_WORDS=(palimpsest {quoted}); COMP_CWORD={len(words)};"
        ' _palimpsest_completion palimpsest; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "_palimpsest_completion" in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("wat",), ["watch"]),
        (("watch", "--un"), ["--until-ready"]),
        (("get", "synd"), ["synds"]),
        (("plan", "--limit", "8", "-o", "y"), ["yaml"]),
    ],
)
def test_bash_completes_commands_options_and_kinds(
    words: tuple[str, ...], found: list[str]
) -> None:
    assert bash(*words) == found


@pytest.mark.parametrize(
    ("shell", "told"), [("zsh", "compdef _palimpsest_completion"), ("fish", "complete --no-files")]
)
def test_other_shells_have_a_script(shell: str, told: str) -> None:
    done = CliRunner().invoke(commands, ["completion", shell])
    assert (done.exit_code, told in done.stdout) == (0, True)
    assert "_PALIMPSEST_COMPLETE=" in done.stdout


def test_kubectl_is_answered_as_cobra_answers() -> None:
    told = answer(["get", "al"]).splitlines()
    assert told == ["alignmentrun\tAlignmentRun", "align\tAlignmentRun", ":4"]
    # Files and folders are the shell's to complete.
    assert answer(["get", "--kubeconfig", ""]) == ":0"
    assert answer(["model", "push", ""]) == ":16"
    assert answer([""]).splitlines()[-2:] == ["watch", ":4"]


def test_a_cluster_that_does_not_answer_is_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert answer(["get", "synds", ""]) == ":4"
    failing = tmp_path / "kubectl"
    failing.write_text(f"#!{shutil.which('false', path=os.defpath)}\n")
    failing.chmod(0o755)
    assert answer(["get", "-n", ""]) == ":4"
    assert answer(["get", "nothing", ""]) == ":4"
