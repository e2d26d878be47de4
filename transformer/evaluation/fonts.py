"""Which installed fonts draw the pieces of a language: matplotlib's own has no Chinese, Japanese, Indic or Thai."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

log = logging.getLogger(__name__)

OWN = "DejaVu Sans"  # comes with matplotlib


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Draw with matplotlib's own font, and with installed ones what it lacks; one line tells what none has."""
    missing = {letter for text in texts for letter in text if not letter.isspace()} - _letters(_path_of(OWN))
    families = [OWN]
    for name, path in sorted(_installed().items()) if missing else ():
        if drawn := missing & _letters(path):
            families.append(name)
            missing -= drawn
    if missing:
        some = "".join(sorted(missing)[:10])
        log.warning(
            "warning: no installed font has %d of the characters drawn (%s): boxes stand for them; install a "
            "font of the language, for instance Noto Sans, and draw again",
            len(missing), some,
        )  # fmt: skip
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _installed() -> dict[str, str]:
    """The upright fonts of common weight, path by family; not the one that draws every character as a box."""
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")]
    return {font.name: font.fname for font in upright if not font.name.startswith("Last Resort")}


def _path_of(family: str) -> str:
    return findfont(FontProperties(family=family))


def _letters(path: str) -> set[str]:
    return {chr(code) for code in get_font(path).get_charmap()}
