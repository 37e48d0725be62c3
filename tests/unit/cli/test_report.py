"""`palimpsest report`: where its page goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from palimpsest.cli.main import commands
from palimpsest.cli.report import report


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_page_is_no_figures_for_programs(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(commands, ["report", "pgen", "questions", "-o", output])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "name its file, such as report.html" in done.stderr
    assert f"palimpsest get KIND NAME -o {output}" in " ".join(done.stderr.split())


@pytest.mark.parametrize("output", ["-", "./json", "json.html", "pages/report.html"])
def test_a_page_goes_to_the_file_that_is_named(output: str) -> None:
    context = report.make_context("report", ["pgen", "questions", "-o", output])
    assert context.params["output"] == Path(output)
