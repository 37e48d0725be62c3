"""Every reason that Ready may have, and an Event; docs/conditions.md says what each means."""

from palimpsest.api.outcomes import Outcome

_POD = {
    "ContainerNotCreated",
    "ImagePullBackOff",
    "JobSuspended",
    "Pending",
    "PodsRefused",
    "Queued",
    "QuotaExceeded",
    "Running",
    "SecretNotFound",
    "ServiceAccountNotFound",
    "Unschedulable",
    "VolumeNotMounted",
}
_STORES = {
    "ArtifactMissing",
    "CarryingCentroids",
    "CustodyNotGranted",
    "JournalBehindReceipt",
    "JournalEntryChanged",
    "JournalMismatch",
    "JournalShorterThanRemembered",
    "JournalShorterThanStatus",
    "LedgerUnread",
    "LedgerUnsound",
    "ManifestInvalid",
    "OpeningJournal",
    "ReceiptInvalid",
    "ReleaseInvalid",
    "ReleaseMissing",
    "SigningKeyUnusable",
    "SigningReceipt",
    "StoreAccessDenied",
    "StoreUnavailable",
    "StoreUnknown",
    "UriInvalid",
    "UriNested",
}
_TERMS = {
    "BudgetEnded",
    "BudgetExceeded",
    "BudgetNotFound",
    "ChargeHeldElsewhere",
    "Committing",
    "DatasetNotFound",
    "DatasetNotReady",
    "DatasetWithoutAnswers",
    "EpsilonUnreachable",
    "FileIsPrivate",
    "GeneratorNotFound",
    "GeneratorNotReady",
    "LimitBelowSpent",
    "ModelNotAllowed",
    "NamespaceNotAllowed",
    "PlacementNotAllowed",
    "PlacesOverlap",
    "ReservationTimedOut",
    "Reserving",
}
_RESULTS = {
    "AttemptsExhausted",
    "AuditInvalid",
    "AuditPowerless",
    "Disrupted",
    "GateFailed",
    "GatesInvalid",
    "Ready",
    "Restarting",
    "StageFailed",
    "Succeeded",
    "Suspended",
    "WaitingForAnswers",
}

READY = frozenset(_POD | _STORES | _TERMS | _RESULTS | {outcome.value for outcome in Outcome})
# Events tell of these beside a change of standing.
ACTS = frozenset({"BudgetExceeded", "JobCreated", "LedgerRefused", "ReceiptNotWritten"})
REASONS = READY | ACTS
