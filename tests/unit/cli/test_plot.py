"""The plot of spending over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.cli.plot import MIN_WIDTH, Level, step_plot

SOLID, SHADED = "█", "░"


def plot(*levels: tuple[float, float, float], width: int = 48, height: int = 4) -> list[str]:
    return step_plot([Level(*each) for each in levels], "start", "end", width, height)


def test_a_staircase() -> None:
    levels = (0, 0, 0), (10, 0.5, 0), (20, 0.5, 0.25), (30, 1, 0), (40, 1, 0)
    assert plot(*levels) == [
        "  100% │                              ██████████",
        "       │                    " + SHADED * 10 + "██████████",
        "   50% │          " + SOLID * 30,
        "       │          " + SOLID * 30,
        "       └" + "─" * 40,
        "        start                                end",
    ]


def test_what_was_short_is_still_seen() -> None:
    drawn = plot((0, 0, 0), (50, 0, 1), (50.001, 0, 0), (100, 0, 0))
    assert [SHADED in row for row in drawn[:4]] == [True] * 4


def test_the_least_spending_is_seen() -> None:
    assert "▁" in plot((0, 0, 0), (1, 1e-9, 0), (2, 1e-9, 0))[3]


def test_the_last_column_is_what_stands_now() -> None:
    drawn = plot((0, 0, 1), (99, 0, 1), (100, 0.25, 0))
    assert [row[-1] if len(row) == 48 else " " for row in drawn[:4]] == [" ", " ", " ", SOLID]


def test_a_lowered_limit_moves_the_top() -> None:
    assert plot((0, 2, 0), (1, 0.5, 0))[0].startswith("  200% │")


def test_without_unicode() -> None:
    drawn = step_plot([Level(0, 0.4, 0.3), Level(9, 0.4, 0.3)], "a", "b", 50, ascii_only=True)
    assert all(row.isascii() for row in drawn)
    assert "#" in "".join(drawn)
    assert ":" in "".join(drawn)


@given(
    levels=st.lists(st.tuples(st.floats(0, 1e10), st.floats(0, 1), st.floats(0, 1)), max_size=50),
    width=st.integers(1, 300),
    height=st.integers(1, 30),
)
def test_every_plot_keeps_to_its_width(
    levels: list[tuple[float, float, float]], width: int, height: int
) -> None:
    drawn = plot(*sorted(levels), width=width, height=height)
    assert len(drawn) == height + 2
    assert max(map(len, drawn)) <= max(width, MIN_WIDTH)


@pytest.mark.parametrize("levels", [(), ((5, 0.3, 0.1),)])
def test_little_to_show(levels: tuple[tuple[float, float, float], ...]) -> None:
    assert len(plot(*levels)) == 6
