"""The demo's last page: what was spent, what came out, where to look."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.api.task import PRIVATE_STAGES

from demo import watch
from demo.console import DemoError, clock, say
from demo.denial import Denial
from demo.ground import Ground
from demo.install import CUSTODY
from demo.kubectl import Tools


def from_cluster(tools: Tools, resources: list[dict[str, Any]], refused: Denial) -> dict[str, Any]:
    """What the API server knows. Raises DemoError if a private stage ran outside custody."""
    budget = next(r for r in resources if r["kind"] == "PrivacyBudget")
    places = private_namespaces(tools)
    if places - {CUSTODY}:
        raise DemoError(f"private stages ran in {', '.join(sorted(places - {CUSTODY}))}")
    limit = budget["spec"]["limit"]
    return {
        "pipelineSeconds": watch.span(resources),
        "stages": [
            {
                "resource": stage.resource,
                "name": stage.name,
                "state": stage.state,
                "seconds": stage.seconds,
            }
            for resource in resources
            for stage in watch.stages(resource)
        ],
        "budget": {
            "name": budget["metadata"]["name"],
            "epsilon": limit["epsilon"],
            "delta": limit["delta"],
            "records": budget["spec"]["dataset"]["records"],
            "guarantee": budget["status"]["guarantee"],
            "status": {
                key: value for key, value in budget["status"].items() if key != "conditions"
            },
        },
        "denial": {"text": refused.text, "jobs": refused.jobs, "pods": refused.pods},
        "custody": {"privateNamespaces": sorted(places)},
    }


def private_namespaces(tools: Tools) -> set[str]:
    """Namespaces in which Jobs or pods of private stages are."""
    items = tools.get("jobs,pods", "-A", "-l", watch.MANAGED)["items"]
    return {
        item["metadata"]["namespace"]
        for item in items
        if item["metadata"]["labels"].get("palimpsest.dev/stage") in PRIVATE_STAGES
    }


def show(told: Mapping[str, Any], ground: Ground, folder: Path) -> None:
    """Print the summary."""
    quality, journal, budget = told["quality"], told["journal"], told["budget"]
    yes, nll, apart = quality["yesNo"], quality["nll"], quality["totalVariation"]
    say("\n== What happened")
    say(f"   {budget['guarantee']}")
    say(f"   The gate (Renyi filter of order {journal['order']}):")
    for charge in journal["charges"]:
        say(f"     {charge['share']:6.1%}  {charge['stage']}: {charge['mechanism']}")
    left = 1 - journal["shareCommitted"] - journal["shareReserved"]
    say(f"     {left:6.1%}  left")
    say(
        f"   Epsilon spent: {journal['epsilonSpentRenyi']:.2f} by Renyi, "
        f"{journal['epsilonSpentPld']:.2f} by PLD (valid if charge parameters were chosen without "
        "seeing earlier releases)"
    )
    say("\n   On held-out public questions            before   after")
    say(f"     nats a token (DP-SGD)                 {nll['base']:7.2f} {nll['generator']:7.2f}")
    say(f"     yes/no form of samples (DP-SGD)       {yes['base']:7.0%} {yes['pool']:7.0%}")
    say(
        f"     total variation (resampling)          {apart['pool']:7.2f} {apart['selected']:7.2f}"
        f"   (by chance alone {apart['floor']:.2f})"
    )
    for name, title in (("pool", "before"), ("selected", "after")):
        say(f"\n   Synthetic questions {title} resampling:")
        for text in quality["samples"][name][:5]:
            say(f"     {text}")
    if quality["answers"]:
        one = quality["answers"][0]
        say(f"\n   Asked: {one['instruction']}")
        say(f"     before: {one['before']}")
        say(f"     after:  {one['after']}")
    if told["rlhf"]:
        steps, judge = told["rlhf"]["steps"], told["rlhf"]["judge"]
        say(
            f"\n   Reward over {len(steps)} steps of RLHF: {steps[0]['reward']:.2f} to "
            f"{steps[-1]['reward']:.2f}, KL {steps[-1]['kl']:.3f}; win rate by another judge "
            f"{judge['winRate']:.2f} ({judge['low']:.2f} to {judge['high']:.2f})"
        )
    pipeline, whole = clock(told["pipelineSeconds"]), clock(told["seconds"])
    say(f"\n   Pipeline {pipeline} min, all of it {whole} min")
    say(f"   Report   {folder / 'report.html'}")
    say(f"   Figures  {folder / 'summary.json'}\n")
    say(ground.tools.kubectl("get", "palimpsest", "-A").out)
    say("   Look around:")
    programs = Path(ground.tools.kubectl_path).parent
    say(f"     export KUBECONFIG={ground.tools.kubeconfig} PATH={programs}:$PATH")
    for command in (
        "kubectl describe privacybudget search-questions",
        "kubectl -n assistants describe synds questions",
        f"kubectl -n {CUSTODY} get jobs,pods",
        f"{Path(sys.executable).parent / 'palimpsest'} budget {budget['name']}",
        "kubectl explain privategenerator.spec.training",
    ):
        say(f"     {command}")
    if ground.ours:
        say("   `make down` removes the cluster; a second `make demo` finds everything done.")
