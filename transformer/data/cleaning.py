"""Unicode cleaning, the same for training text and for the translator's input."""

import html
import re
import unicodedata

# Only entities that end in a semicolon: html.unescape alone would also turn "?a=1&copy=2" into "?a=1©=2".
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")

# Controls, the soft hyphen, zero-width spaces, directional marks, byte-order marks and lone surrogates. The joiners
# U+200C and U+200D stay: Persian and the Indic scripts spell words with them. White space is collapsed, not removed.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def clean_text(text: str) -> str:
    """`text` in Unicode form NFC on one line.

    HTML entities are resolved (once), control characters, soft hyphens and other invisible characters removed,
    runs of white space become one space, and the ends are stripped.
    """
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _INVISIBLE.sub("", text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def is_writable(text: str) -> bool:
    """Whether a model can write `text`: cleaned training text holds no invisible character and only form NFC."""
    return text.isascii() or (unicodedata.is_normalized("NFC", text) and _INVISIBLE.search(text) is None)


def fold_text(clean: str) -> str:
    """The form in which two cleaned sentences count as the same one: letter case does not matter."""
    return clean.casefold()
