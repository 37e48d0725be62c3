"""Entry point of every stage's pod: one task in, one outcome of the closed set out."""

import errno
import importlib
import json
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from palimpsest.api.outcomes import EXIT_CODES, MESSAGES, Outcome
from palimpsest.api.task import (
    TASK_VARIABLE,
    ClaimModelInput,
    HubModelInput,
    PrivateInput,
    Task,
)
from palimpsest.ledger import LedgerError
from palimpsest.storage import AccessDenied, NotFound, StoreError
from pydantic import ValidationError

from palimpsest_stage.errors import (
    AuditFailed,
    ChargeRefused,
    DatasetUnsuitable,
    InputMismatch,
    InvalidTask,
    ModelUnsuitable,
)
from palimpsest_stage.private.custody import write_report
from palimpsest_stage.runtime import Context

TERMINATION_LOG = "/dev/termination-log"

log = logging.getLogger("palimpsest.stage")


class Interrupted(BaseException):
    """SIGTERM arrived. Not an Exception: no handler on the way may take it for a record's fault."""


def main() -> None:
    """Run the task in PALIMPSEST_TASK and exit with its outcome's code."""
    signal.signal(signal.SIGTERM, _interrupt)
    outcome = run(os.environ)
    sys.stdout.flush()
    # Libraries' exit hooks could still print, wait for threads or change the code.
    os._exit(EXIT_CODES[outcome])


def run(environment: Mapping[str, str]) -> Outcome:
    """Run one task; writes the termination message. Raises nothing."""
    voice = os.dup(2)
    outcome, task, context = Outcome.INVALID_TASK, None, None
    report: dict[str, Any] = {}
    try:
        task = parse_task(environment.get(TASK_VARIABLE, ""))
        if _is_private(task):
            _silence()
        else:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        _prepare(environment)
        context = Context(task, environment)
        if not context.published():
            stage = importlib.import_module(f"palimpsest_stage.{task.parameters.stage}")
            stage.run(context, report)
        outcome = Outcome.COMPLETED
    except BaseException as error:
        outcome = classify(error)
        report["error"] = traceback.format_exc()
    # Custody's word to the outside is the outcome alone; to the custodian it is the report.
    try:
        if task and context and _is_private(task) and task.charge:
            report["outcome"] = outcome
            write_report(context.stores[task.charge.store], task.charge, context.attempt, report)
        elif "error" in report:
            log.error("%s", report["error"])
    except Exception:
        log.debug("no report was written")
    _say(outcome, voice, environment)
    return outcome


def parse_task(text: str) -> Task:
    """The task document. Raises InvalidTask unless private input and charge come together.

    Beside private input there are models of the store alone.
    """
    try:
        task = Task.model_validate_json(text)
    except ValidationError as error:
        raise InvalidTask(f"{TASK_VARIABLE}: {error}") from error
    private = [one for one in task.inputs.values() if isinstance(one, PrivateInput)]
    expected = task.parameters.stage in ("train", "histogram")
    if expected != bool(private) or expected != (task.charge is not None):
        raise InvalidTask("private input and charge belong to train and histogram, and to no other")
    elsewhere = [
        one for one in task.inputs.values() if isinstance(one, HubModelInput | ClaimModelInput)
    ]
    if private and elsewhere:
        raise InvalidTask("beside private input no model comes from a hub or a claim")
    if task.charge and any(one.uri != task.charge.journal for one in private):
        raise InvalidTask("the charge is not to the private input's journal")
    return task


def classify(error: BaseException) -> Outcome:
    """The outcome of the closed set that an error is."""
    for kinds, outcome in _OUTCOMES:
        if isinstance(error, kinds):
            return outcome
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
    # torch raises a plain RuntimeError when the allocator fails.
    exhausted = isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("can't allocate memory", "out of memory")
    )
    return Outcome.OUT_OF_RESOURCES if full or exhausted else Outcome.INTERNAL_ERROR


_OUTCOMES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Outcome], ...] = (
    (Interrupted, Outcome.INTERRUPTED),
    (InvalidTask, Outcome.INVALID_TASK),
    ((InputMismatch, NotFound), Outcome.INPUT_MISMATCH),
    (ModelUnsuitable, Outcome.MODEL_UNSUITABLE),
    (DatasetUnsuitable, Outcome.DATASET_UNSUITABLE),
    (AuditFailed, Outcome.AUDIT_FAILED),
    ((ChargeRefused, LedgerError), Outcome.CHARGE_REFUSED),
    (AccessDenied, Outcome.ACCESS_DENIED),
    (StoreError, Outcome.STORE_UNAVAILABLE),
    (MemoryError, Outcome.OUT_OF_RESOURCES),
)


def _is_private(task: Task) -> bool:
    return task.charge is not None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # A second signal must not cut the report short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted


def _silence() -> None:
    """Nothing a library prints may leave custody, below Python included, nor a core dump."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)


def _prepare(environment: Mapping[str, str]) -> None:
    """Settings that libraries read when imported: no network, no home, no chatter."""
    scratch = environment.get("PALIMPSEST_SCRATCH", "/scratch")
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait by spinning stall one another where processors are shared.
        "OMP_WAIT_POLICY": "passive",
        "HF_HOME": f"{scratch}/hf",
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/cache/inductor",
        "HOME": scratch,
        # torch looks up the user's name, which a bare user id does not have.
        "USER": "palimpsest",
        "LOGNAME": "palimpsest",
    }


def _say(outcome: Outcome, voice: int, environment: Mapping[str, str]) -> None:
    message: dict[str, Any] = {"outcome": outcome.value, "message": MESSAGES[outcome]}
    text = json.dumps(message)
    os.write(voice, f"{text}\n".encode())
    path = Path(environment.get("PALIMPSEST_TERMINATION_LOG", TERMINATION_LOG))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        log.warning("no termination message could be written to %s", path)
