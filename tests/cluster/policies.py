"""Who may do what in the object store: one bucket policy a bucket, pure data.

The demo's cluster and the tests apply the same documents. Only the store's root key writes records
and models: nobody below needs to.
"""

from __future__ import annotations

BUCKETS = ("private", "releases", "models", "outputs")
ACCOUNTS = ("custodian", "operator", "tenant")
CUSTODY = ".palimpsest/*"
JOURNAL = ".palimpsest/*/ledger/*"

READ = ("s3:GetObject",)
WRITE = ("s3:PutObject",)
DELETE = ("s3:DeleteObject",)
LIST = ("s3:ListBucket", "s3:GetBucketLocation")
MULTIPART = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")

Policy = dict[str, object]


def policy(bucket: str, keys: dict[str, str]) -> Policy:
    """The policy of one of BUCKETS; `keys` maps ACCOUNTS to their access key ids."""

    def allow(account: str, actions: tuple[str, ...], objects: str | None = None) -> Policy:
        suffix = "" if objects is None else f"/{objects}"
        return {
            "Effect": "Allow",
            "Principal": {"AWS": [keys[account]]},
            "Action": list(actions),
            "Resource": [f"arn:aws:s3:::{bucket}{suffix}"],
        }

    statements = {
        "private": [
            allow("custodian", LIST),
            allow("custodian", READ, "*"),
            allow("custodian", WRITE, CUSTODY),
            # No LIST: a listing of the bucket is a count of the records. The journal alone:
            # checkpoints and reports lie beside it.
            allow("operator", READ + WRITE, JOURNAL),
        ],
        "releases": [
            allow("custodian", LIST),
            allow("custodian", READ + WRITE + DELETE + MULTIPART, "*"),
            allow("operator", LIST),
            allow("operator", READ, "*"),
            allow("operator", WRITE, "*/receipt.json"),
            # Public files that custody needs (centroids) are carried here by the operator.
            allow("operator", WRITE, "*/inbox/*"),
            allow("tenant", LIST),
            allow("tenant", READ, "*"),
        ],
        "models": [
            statement
            for account in ACCOUNTS
            for statement in (allow(account, LIST), allow(account, READ, "*"))
        ],
        "outputs": [
            allow("tenant", LIST),
            allow("tenant", READ + WRITE + DELETE + MULTIPART, "*"),
            allow("operator", LIST),
            allow("operator", READ, "*"),
        ],
    }
    return {"Version": "2012-10-17", "Statement": statements[bucket]}
