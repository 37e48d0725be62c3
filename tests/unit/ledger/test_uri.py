"""Two spellings of one prefix meet, or are refused with the reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.ledger import charge_id
from palimpsest.storage import S3Uri, canonical_prefix, parse_uri


@pytest.mark.parametrize(
    "uri", ["s3://private/chat/en/", "s3://private/chat/en", "S3://private/chat/en/"]
)
def test_spellings_that_meet(uri: str) -> None:
    assert canonical_prefix(uri) == "s3://private/chat/en/"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "s3://bucket/prefix/"),
        ("/private/chat", "s3://bucket/prefix/"),
        ("http://private/chat", "s3://bucket/prefix/"),
        ("s3:/private/chat", "s3://bucket/prefix/"),
        ("s3:///chat/", "bucket name"),
        ("s3://Private/chat/", "bucket name"),
        ("s3://private", "below the bucket"),
        ("s3://private/", "below the bucket"),
        ("s3://private//", "below the bucket"),
        ("s3://private//chat/", "empty segment"),
        ("s3://private/chat//", "empty segment"),
        ("s3://private/chat//en/", "empty segment"),
        ("s3://private/./chat/", "no directory"),
        ("s3://private/x/../chat/", "no directory"),
        ("s3://private/chat/..", "no directory"),
        ("s3://private/ch%61t/", "percent-encoding"),
        ("s3://private/chat%2Fen/", "percent-encoding"),
        ("s3://private/ch\u00e4t/", "only letters"),
        ("s3://private/ch\uff41t/", "only letters"),
        ("s3://private/chat?x=1", "only letters"),
        ("s3://private/chat#x", "only letters"),
        ("s3://private/chat\\en", "only letters"),
        ("s3://private/chat\n/", "control"),
        ("s3://private/" + "x" * 2000, "longer"),
        ("s3://private/.palimpsest/chat/", "kept for journals"),
        ("s3://private:443/chat/", "bucket name"),
        ("s3://keys@private/chat/", "bucket name"),
        ("s3://priv%61te/chat/", "bucket name"),
        ("s3://pri..vate/chat/", "bucket name"),
        ("s3://private./chat/", "bucket name"),
        ("s3://\uff50rivate/chat/", "bucket name"),
        ("s3://private/%2e%2e/chat/", "percent-encoding"),
        ("s3://private/../private/chat/", "no directory"),
        ("s3://private/\u2025/chat/", "only letters"),
        ("s3://private/chat\u2215en/", "only letters"),
        ("s3://private/chat /", "only letters"),
        (" s3://private/chat/", "s3://bucket/prefix/"),
    ],
)
def test_what_could_name_another_key_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        canonical_prefix(uri)


@given(st.text(alphabet="aB9./%_ \u00e9\n-", max_size=20))
def test_the_canonical_form_is_its_own(path: str) -> None:
    try:
        canonical = canonical_prefix(f"s3://private/{path}")
    except ValueError:
        return
    assert canonical_prefix(canonical) == canonical
    assert canonical.rstrip("/") == f"s3://private/{path}".rstrip("/")


def test_an_object_has_bucket_and_key() -> None:
    assert parse_uri("s3://private/a/b.json") == S3Uri("private", "a/b.json")
    assert str(S3Uri("private", "a/b.json")) == "s3://private/a/b.json"


def test_charges_are_told_apart_by_every_part_and_by_nothing_else() -> None:
    parts = ["s3://private/chat/", "team-a", "PrivateGenerator", "one", "sha256:00"]
    ids = {charge_id(*parts)}
    for index in range(5):
        changed = [*parts]
        changed[index] = "s3://private/other/" if index == 0 else changed[index] + "x"
        ids.add(charge_id(*changed))
    # The border between two parts is a part of the name.
    ids.add(charge_id("s3://private/chat/", "team-aP", "rivateGenerator", "one", "sha256:00"))
    assert len(ids) == 7
    assert charge_id("S3://private/chat", *parts[1:]) == charge_id(*parts)
