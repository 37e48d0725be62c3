"""The control loop: pure `reconcile(observed, now) -> Plan` by kind, and the adapter that acts.

Where a thing is decided: `budget.py`, `generator.py`, `dataset.py`, `alignment.py` (what each kind
wants next), `stages.py` (how far a stage is), `charges.py` (what a private stage's charge becomes),
`tasks.py` and `jobs.py` (what a pod is told and given), `conditions.py` (how it is said).
`adapter/` holds every side effect.
"""
