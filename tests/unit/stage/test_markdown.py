"""Texts of artifacts stay texts in Markdown."""

import re

from hypothesis import given
from hypothesis import strategies as st
from palimpsest_stage.markdown import LONGEST, plain


@given(st.text(alphabet="a\\`*_[]<>|# \n\r\t", max_size=40))
def test_a_text_is_one_line_without_markup(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    # Every mark has an odd number of backslashes before it.
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|#]", shown)
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())


def test_a_long_text_is_cut() -> None:
    assert len(plain("a" * 1000)) == LONGEST
