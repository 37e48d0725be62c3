"""The run by reinforcement learning: part of the demo where RLHF=1 asks for it."""

from __future__ import annotations

import json
import os
from typing import Any

from demo.checker.artifacts import find, of_stage
from demo.checker.bucket import Access, Bucket, CheckError
from demo.install import TENANT

NAME = "rewarded"
OUTPUT = "s3://outputs/rewarded/"


def wanted() -> bool:
    """Whether the run belongs to this demo."""
    return os.environ.get("RLHF", "") not in ("", "0")


def figures(access: Access) -> dict[str, Any]:
    """Its curves by step, and the judge's word. Raises CheckError."""
    bucket = Bucket(access)
    made = of_stage(find(bucket, [OUTPUT]), "rlhf", (TENANT, NAME))
    if not made:
        raise CheckError(f"{OUTPUT}: no model was published")
    steps = json.loads(made[-1].read(bucket, "training.json"))["steps"]
    judge = json.loads(made[-1].read(bucket, "evaluation.json"))["judge"]
    return {"steps": steps, "judge": judge}
