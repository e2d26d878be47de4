"""Fonts for the pieces of any language, chosen from those that are installed."""

import logging

import matplotlib
import pytest
from matplotlib.font_manager import fontManager

from transformer.evaluation.fonts import fonts_for

COMBINING_CIRCLE = "\u20dd"  # comes with matplotlib in STIXGeneral, not in DejaVu Sans


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one font beside matplotlib's own, and the one that draws every character as a box."""
    names = ("DejaVu Sans", "STIXGeneral", "Last Resort High-Efficiency")
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.name in names])


@pytest.mark.parametrize(
    ("text", "families", "told"),
    [
        ("Größe Ёлка", ["DejaVu Sans"], []),
        (f"a{COMBINING_CIRCLE}", ["DejaVu Sans", "STIXGeneral"], []),
        ("はま", ["DejaVu Sans"], ["(はま)", "2 of the characters"]),
        (f"ま{COMBINING_CIRCLE}", ["DejaVu Sans", "STIXGeneral"], ["1 of the characters"]),
    ],
)
def test_what_the_own_font_lacks_comes_from_an_installed_one_or_is_told_once(
    installed: None, caplog: pytest.LogCaptureFixture, text: str, families: list[str], told: list[str]
) -> None:
    with caplog.at_level(logging.WARNING), fonts_for([text, text]):
        assert matplotlib.rcParams["font.family"] == families
    assert matplotlib.rcParams["font.family"] == ["sans-serif"]
    assert len(caplog.messages) == bool(told)
    assert all(part in caplog.messages[0] for part in told)
