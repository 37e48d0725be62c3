"""What becomes of a release: published with audit.json, or withheld."""

from pathlib import Path
from typing import Any

from palimpsest.api.audit import AUDIT, AuditParameters
from palimpsest.privacy.audits import judge

from palimpsest_stage.audit.scores import Scores
from palimpsest_stage.errors import AuditFailed, InvalidTask
from palimpsest_stage.runtime import write_json


def gate(audit: AuditParameters, scores: Scores | None, report: dict[str, Any], out: Path) -> None:
    """Write audit.json into the folder. Raises AuditFailed if the claim is refuted.

    Then nothing is written but the custodian's report. Raises InvalidTask without scores.
    """
    if scores is None:
        raise InvalidTask("the checkpoint is of a training without an audit")
    correct = scores.correct(audit.included_guesses, audit.excluded_guesses)
    result = judge(audit, correct)
    told = report["audit"] = result.model_dump(by_alias=True)
    if result.verdict == "Failed":
        raise AuditFailed(f"epsilon is at least {result.bound}, not {result.epsilon}")
    write_json(out / AUDIT, told)
