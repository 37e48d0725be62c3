"""Keys come from a mounted Secret and never show."""

from pathlib import Path

import pytest
from palimpsest.storage import StoreConfig, load_keys


def test_a_mounted_secret_is_read(tmp_path: Path) -> None:
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("access\n")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("hidden\n")
    keys = load_keys(tmp_path)
    assert (keys.access_key, keys.secret_key) == ("access", "hidden")
    shown = repr(StoreConfig(None, "us-east-1", False, None, keys))
    assert "hidden" not in shown
    assert "access'" not in shown


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff"])
def test_a_secret_without_a_key_names_it(content: str | bytes | None, tmp_path: Path) -> None:
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("access")
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "AWS_SECRET_ACCESS_KEY").write_bytes(data)
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY"):
        load_keys(tmp_path)
