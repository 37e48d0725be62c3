"""Entry point of every stage's pod: one task in, one outcome of the closed set out."""

import importlib
import json
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from palimpsest.api.outcomes import EXIT_CODES, MESSAGES, Outcome
from palimpsest.api.shortage import Shortage
from palimpsest.api.task import (
    PRIVATE_STAGES,
    SCRATCH,
    TASK_VARIABLE,
    TRACE_VARIABLE,
    UID_VARIABLE,
    ChargeRef,
    ClaimModelInput,
    EndpointInput,
    HubModelInput,
    PrivateInput,
    Task,
)
from palimpsest.ledger import LedgerError
from palimpsest.storage import AccessDenied, NotFound, StoreError
from palimpsest.telemetry import logs
from pydantic import ValidationError

from palimpsest_stage.distributed.group import ALONE, Group
from palimpsest_stage.distributed.launch import Word, launch, threads
from palimpsest_stage.distributed.world import World
from palimpsest_stage.errors import (
    AuditFailed,
    ChargeRefused,
    DatasetUnsuitable,
    Diverged,
    EndpointFailed,
    InputMismatch,
    Interrupted,
    InvalidTask,
    ModelTooLarge,
    ModelUnsuitable,
    NoRoom,
    PeerLost,
    exhausted,
)
from palimpsest_stage.parts import forget
from palimpsest_stage.private.custody import write_report
from palimpsest_stage.runtime import Context

# The stages that may ask an endpoint.
ASKING = ("annotate", "sft", "dpo", "rlhf")
TERMINATION_LOG = "/dev/termination-log"
# More than the parent of several processes waits for them, less than the pod's 30 of grace.
LEAVE_SECONDS = 20

log = logging.getLogger("palimpsest.stage")


def main() -> None:
    """Run the task in PALIMPSEST_TASK and exit with its outcome's code."""
    signal.signal(signal.SIGTERM, _interrupt)
    outcome = run(os.environ)
    sys.stdout.flush()
    # Libraries' exit hooks could still print, wait for threads or change the code.
    os._exit(EXIT_CODES[outcome])


def run(environment: Mapping[str, str]) -> Outcome:
    """Run one task; writes the termination message. Raises nothing."""
    voice, shortage = os.dup(2), None
    try:
        logs.configure()
        task = parse_task(environment.get(TASK_VARIABLE, ""))
        if _is_private(task):
            _silence()
        else:
            of = task.subject
            logs.bind(kind=of.kind, namespace=of.namespace, name=of.name)
            logs.bind(uid=environment.get(UID_VARIABLE, ""), stage=task.parameters.stage)
            logs.bind(trace_id=environment.get(TRACE_VARIABLE, ""))
        _prepare(environment)
        world = world_of(task, environment)
        if world.size == 1:
            word = attempt(task, environment, lambda: ALONE)
            outcome = word.outcome
            # Custody's word to the outside is the outcome alone.
            shortage = None if _is_private(task) else word.shortage
        else:
            outcome = launch(world, lambda local: _rank(task, environment, world, local))
    except BaseException as error:
        log.error("no stage was run", extra={"stack": traceback.format_exc()})
        outcome = classify(error)
    _say(outcome, shortage, voice, environment)
    return outcome


def attempt(task: Task, environment: Mapping[str, str], join: Callable[[], Group]) -> Word:
    """This process's part of the attempt, and its report. Raises nothing."""
    context, report = None, dict[str, Any]()
    lost, shortage = False, None
    try:
        context = Context(task, environment, join())
        group = context.group
        if not group.broadcast_number(int(group.leads and context.published())):
            stage = importlib.import_module(f"palimpsest_stage.{task.parameters.stage}")
            stage.run(context, report)
        if not _is_private(task):
            # Not in the stage: the pod that published may not have lived to.
            forget(context)
        outcome = Outcome.COMPLETED
    except BaseException as error:
        outcome, lost = classify(error), isinstance(error, PeerLost)
        shortage = error.shortage if isinstance(error, ModelTooLarge | NoRoom) else None
        report["error"] = traceback.format_exc()
    # It has ended: to ask it to must not cut the report short, only bound it.
    signal.signal(signal.SIGTERM, lambda *_: _leave_in_time(outcome))
    # The custodian is told more.
    try:
        if context and task.charge:
            report["outcome"] = outcome
            _report(context, task.charge, report, lost)
        elif "error" in report:
            log.error("the stage failed", extra={"stack": report["error"]})
    except Exception:
        log.debug("no report was written")
    return Word(outcome, lost, shortage)


def _rank(task: Task, environment: Mapping[str, str], world: World, local: int) -> Word:
    """One process of several."""
    # Before torch is imported, which reads it then.
    os.environ["OMP_NUM_THREADS"] = str(threads(world.processes))

    def join() -> Group:
        from palimpsest_stage.distributed.process_group import ProcessGroup  # noqa: PLC0415

        return ProcessGroup.join(world, local, _scratch(environment))

    return attempt(task, environment, join)


def _report(context: Context, charge: ChargeRef, report: dict[str, Any], lost: bool) -> None:
    """The leader's, and that of another rank which failed by itself."""
    rank, name = context.group.rank, context.attempt
    if rank:
        if lost or "error" not in report:
            return
        name += f"-rank-{rank}"
    write_report(context.stores[charge.store], charge, name, report)


def world_of(task: Task, environment: Mapping[str, str]) -> World:
    """The processes that share the work. Raises InvalidTask if the stage knows no sharing."""
    world = World.of(environment)
    if world.size > 1 and task.parameters.stage != "train":
        raise InvalidTask(f"{task.parameters.stage} runs on one process")
    return world


def parse_task(text: str) -> Task:
    """The task document. Raises InvalidTask unless private input and charge come together.

    Beside private input there are models of the store alone.
    """
    try:
        task = Task.model_validate_json(text)
    except ValidationError as error:
        raise InvalidTask(f"{TASK_VARIABLE}: {error}") from error
    private = [one for one in task.inputs.values() if isinstance(one, PrivateInput)]
    expected = task.parameters.stage in PRIVATE_STAGES
    if expected != bool(private) or expected != (task.charge is not None):
        raise InvalidTask(
            f"private input and charge belong to {' and '.join(PRIVATE_STAGES)}, and to no other"
        )
    elsewhere = [
        one for one in task.inputs.values() if isinstance(one, HubModelInput | ClaimModelInput)
    ]
    asked = {name for name, one in task.inputs.items() if isinstance(one, EndpointInput)}
    if asked != set(task.endpoints) or (asked and task.parameters.stage not in ASKING):
        raise InvalidTask(
            f"an endpoint and the way to ask it belong together, and to {', '.join(ASKING)}"
        )
    if private and elsewhere:
        raise InvalidTask("beside private input no model comes from a hub or a claim")
    if task.charge and any(one.uri != task.charge.journal for one in private):
        raise InvalidTask("the charge is not to the private input's journal")
    return task


def classify(error: BaseException) -> Outcome:
    """The outcome of the closed set that an error is."""
    if isinstance(error, EndpointFailed):
        return error.outcome
    for kinds, outcome in _OUTCOMES:
        if isinstance(error, kinds):
            return outcome
    return Outcome.OUT_OF_RESOURCES if exhausted(error) else Outcome.INTERNAL_ERROR


_OUTCOMES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Outcome], ...] = (
    ((Interrupted, PeerLost), Outcome.INTERRUPTED),
    (InvalidTask, Outcome.INVALID_TASK),
    ((InputMismatch, NotFound), Outcome.INPUT_MISMATCH),
    (ModelUnsuitable, Outcome.MODEL_UNSUITABLE),
    (DatasetUnsuitable, Outcome.DATASET_UNSUITABLE),
    (AuditFailed, Outcome.AUDIT_FAILED),
    (Diverged, Outcome.DIVERGED),
    ((ChargeRefused, LedgerError), Outcome.CHARGE_REFUSED),
    (AccessDenied, Outcome.ACCESS_DENIED),
    (StoreError, Outcome.STORE_UNAVAILABLE),
    ((MemoryError, ModelTooLarge), Outcome.OUT_OF_RESOURCES),
)


def _is_private(task: Task) -> bool:
    return task.charge is not None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _leave_in_time(Outcome.INTERRUPTED)
    raise Interrupted


def _leave_in_time(outcome: Outcome) -> None:
    """End so at the latest before the pod is killed, which would be charged in full.

    What is left to do asks the store, which may hang: uploads that are under way, the report.
    """
    # A second signal must not cut the report short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: _leave(outcome))
    signal.alarm(LEAVE_SECONDS)


def _leave(outcome: Outcome) -> None:
    _say(outcome, None, sys.stderr.fileno(), os.environ)
    os._exit(EXIT_CODES[outcome])


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
    scratch = _scratch(environment)
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait by spinning stall one another where processors are shared: OpenMP's own
        # 300,000 looks double the time of two stages on two processors. So few cost a tenth there,
        # and spare steps of many small operations a wake-up each where no one shares.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "2000",
        "HF_HOME": f"{scratch}/hf",
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/cache/inductor",
        "HOME": str(scratch),
        # torch looks up the user's name, which a bare user id does not have.
        "USER": "palimpsest",
        "LOGNAME": "palimpsest",
    }


def _scratch(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("PALIMPSEST_SCRATCH", SCRATCH))


def _say(
    outcome: Outcome, shortage: Shortage | None, voice: int, environment: Mapping[str, str]
) -> None:
    message: dict[str, Any] = {"outcome": outcome.value, "message": MESSAGES[outcome]}
    if shortage:
        message["shortage"] = shortage.model_dump(by_alias=True, exclude_none=True)
    text = json.dumps(message)
    os.write(voice, f"{text}\n".encode())
    path = Path(environment.get("PALIMPSEST_TERMINATION_LOG", TERMINATION_LOG))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        log.warning("no termination message could be written to %s", path)
