"""What a resource that is being deleted settles before it goes."""

from collections.abc import Sequence

from palimpsest.api import GROUP
from palimpsest.api.common import ChargeStatus
from palimpsest.api.task import PRIVATE_STAGES
from palimpsest.ledger.state import LedgerState
from palimpsest.reconcile.observed import BudgetView, Job, Meta
from palimpsest.reconcile.plan import FINALIZER, Commit, DeleteJob, LedgerAction, Plan, Release

# On a resource whose store is gone for good: let it go. Its reservation stays in the journal.
ABANDON = f"{GROUP}/abandon-release"
JOBS_SECONDS = 1.0
STORE_SECONDS = 30.0


def answers_for_spending(
    meta: Meta, ledger: Sequence[LedgerAction], charge: ChargeStatus | None
) -> bool:
    """Whether our finalizer must be on the resource: from before its first charge until settled.

    What was never charged has nothing to settle, and goes even if its budget names no store.
    """
    return FINALIZER in meta.finalizers or bool(ledger) or charge is not None


def settle(meta: Meta, budget: BudgetView | None, all_jobs: tuple[Job, ...], cluster: str) -> Plan:
    """End its Jobs in custody, then its charges in this `cluster`, then let it go.

    A charge that started commits in full: had its artifact been published, it would have been
    committed as completed before. Without a budget there is no journal to settle with; what it
    holds stays held there.
    """
    mine = [job for job in all_jobs if job.stage in PRIVATE_STAGES]
    ends = tuple(DeleteJob(job.namespace, job.name) for job in mine if not job.deleting)
    if mine and not meta.abandoned:
        return Plan(status=None, children=ends, requeue=JOBS_SECONDS)
    if budget is None:
        return Plan(status=None, finalizer=False)
    if not isinstance(budget.ledger, LedgerState):
        # Spending that cannot be read cannot be settled: wait for the store, or for the word that
        # it is gone. Nothing is given back either way.
        if meta.abandoned:
            return Plan(status=None, children=ends, finalizer=False)
        return Plan(status=None, requeue=STORE_SECONDS)
    owner = (meta.namespace, meta.kind, meta.name)
    actions: tuple[LedgerAction, ...] = tuple(
        Commit(identity, "full") if charge.attempts else Release(identity)
        for identity, charge in budget.ledger.charges.items()
        if charge.active
        # A resource of the same name in another cluster runs, and answers for, its own.
        and charge.subject.cluster == cluster
        and (charge.subject.namespace, charge.subject.kind, charge.subject.name) == owner
    )
    return Plan(status=None, ledger=actions, children=ends, finalizer=bool(actions), requeue=0.2)
