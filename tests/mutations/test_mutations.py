"""A promise that is broken turns the test that guards it red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mutations.catalogue import MUTATIONS, OPERATOR, STAGE, Mutation

ROOT = Path(__file__).parents[2]
TEST_FAILED = 1


@pytest.mark.full
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    for package in (OPERATOR, STAGE):
        shutil.copytree(ROOT / package, tmp_path / package)
    broken = tmp_path / mutation.file
    source = broken.read_text()
    assert source.count(mutation.before) == 1, f"{mutation.file} no longer reads so in one place"
    broken.write_text(source.replace(mutation.before, mutation.after))

    # A path of the environment goes before the installed packages.
    paths = [tmp_path / Path(package).parent for package in (OPERATOR, STAGE)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT / "tests"]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == TEST_FAILED, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"FAILED {mutation.test}" in done.stdout, done.stdout[-3000:]
