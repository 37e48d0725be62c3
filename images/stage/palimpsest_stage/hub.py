"""Fetching a commit of a model hub's repository, in a process of its own.

The stage itself stays offline: its libraries read that when they are imported, before a model is
fetched. So this is the only process that a hub is open to, and the only one that has its token.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from palimpsest.api.outcomes import EXIT_CODES, Outcome
from palimpsest.api.task import HUB_TOKEN, HubModelInput
from palimpsest.storage import AccessDenied, StoreUnavailable
from palimpsest.storage.model_folder import LEFT_OUT

from palimpsest_stage.errors import InputMismatch, StageError

_PROGRAM = ["-m", "palimpsest_stage.hub"]
_CONFIG = "config.json"


def look(model: HubModelInput, token: Path | None, target: Path) -> dict[str, int]:
    """The sizes of what `fetch` would put into `target`, where config.json is put alone.

    Raises as that.
    """
    sizes: dict[str, int] = json.loads(_asked("look", model, token, target))
    return sizes


def fetch(model: HubModelInput, token: Path | None, target: Path) -> None:
    """Put the repository's files into `target`, but for code and pickles.

    `token` is the mounted Secret's folder. Raises AccessDenied, InputMismatch, StoreUnavailable,
    OSError where `target` is full.
    """
    _asked("fetch", model, token, target)


def _asked(what: str, model: HubModelInput, token: Path | None, target: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    environment.pop(HUB_TOKEN, None)
    if token is not None:
        try:
            environment[HUB_TOKEN] = (token / HUB_TOKEN).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AccessDenied(f"the Secret has no key {HUB_TOKEN}") from error
    where = f"hf://{model.repository} at {model.revision}"
    done = subprocess.run(
        [sys.executable, *_PROGRAM, what, model.repository, model.revision, str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    said = f"{where}: {done.stderr[-2000:].strip()}"
    if done.returncode == EXIT_CODES[Outcome.OUT_OF_RESOURCES]:
        raise OSError(errno.ENOSPC, said)
    raise _ERRORS.get(done.returncode, StageError)(said)


_ERRORS: dict[int, type[Exception]] = {
    EXIT_CODES[Outcome.ACCESS_DENIED]: AccessDenied,
    EXIT_CODES[Outcome.INPUT_MISMATCH]: InputMismatch,
    EXIT_CODES[Outcome.STORE_UNAVAILABLE]: StoreUnavailable,
}


def _main(what: str, repository: str, revision: str, target: str) -> Outcome:
    # Only here: what the library reads from the environment is the stage's own in its process.
    from huggingface_hub import HfApi  # noqa: PLC0415

    hub = HfApi(token=os.environ.get(HUB_TOKEN) or False)
    try:
        if what == "look":
            tree = hub.list_repo_tree(repository, recursive=True, revision=revision)
            sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
            kept = {path: size for path, size in sizes.items() if Path(path).suffix not in LEFT_OUT}
            sys.stdout.write(json.dumps(kept))
            hub.hf_hub_download(repository, _CONFIG, revision=revision, local_dir=target)
        else:
            hub.snapshot_download(
                repository,
                revision=revision,
                local_dir=target,
                ignore_patterns=[f"*{suffix}" for suffix in sorted(LEFT_OUT)],
                max_workers=4,
            )
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        return _outcome(error)
    return Outcome.COMPLETED


def _outcome(error: BaseException | None) -> Outcome:
    """What the hub's answer, or the lack of one, means; it may lie behind other errors."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return Outcome.ACCESS_DENIED
        if status == 404:
            return Outcome.INPUT_MISMATCH
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Outcome.OUT_OF_RESOURCES
        error = error.__cause__ or error.__context__
    return Outcome.STORE_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(EXIT_CODES[_main(*sys.argv[1:])])
