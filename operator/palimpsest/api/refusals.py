"""The closed set of reasons for which admission denies, as its metrics name them."""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a request was denied. Where a condition says the like, by the same word."""

    SPEC_INVALID = "SpecInvalid"
    NOT_CONFIRMED = "NotConfirmed"
    LIMIT_INVALID = "LimitInvalid"
    LIMIT_RAISED = "LimitRaised"
    LIMIT_BELOW_SPENT = "LimitBelowSpent"
    PLACES_OVERLAP = "PlacesOverlap"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    MODEL_NOT_ALLOWED = "ModelNotAllowed"
    PLACEMENT_NOT_ALLOWED = "PlacementNotAllowed"
    CANNOT_BE_PRICED = "CannotBePriced"
    BUDGET_EXCEEDED = "BudgetExceeded"
    AUDIT_POWERLESS = "AuditPowerless"
    FILE_IS_PRIVATE = "FileIsPrivate"
