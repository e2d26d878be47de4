"""Unicode cleaning, the same for training text and for the translator's input, and HTML entities."""

import html
import html.entities
import re
import unicodedata

# Only entities that end in a semicolon: "?a=1&copy=2" is no "?a=1©=2".
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")

# The printable characters of Windows-1252 where Unicode has the C1 controls: text in that encoding that was taken for
# Latin-1. U+0085 is an ellipsis only where one can stand, since it is also a line break.
_WINDOWS_1252 = {
    code: character
    for code in range(0x80, 0xA0)
    if code != 0x85 and (character := bytes([code]).decode("cp1252", "ignore"))
}
_C1 = re.compile("[\x80-\x9f]")
_ELLIPSIS = re.compile("(?<=\\w)\x85(?=[\\s\"'”’)\\]]|$)")

# Controls, the soft hyphen, zero-width spaces, directional marks, byte-order marks and lone surrogates. The joiners
# U+200C and U+200D stay: Persian and the Indic scripts spell words with them. White space is collapsed, not removed.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def resolve_entities(text: str) -> str:
    """`text` with HTML entities resolved, once; what is no entity, as in "?a=1&copy=2" or "&company;", stays.

    Applied where text enters: by the readers of formats in which entities are markup, by `prepare` to all others, and
    by `transformer translate`.
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    if entity[0][1] == "#":
        return html.unescape(entity[0])
    return html.entities.html5.get(entity[0][1:], entity[0])


def clean_text(text: str) -> str:
    """`text` in Unicode form NFC on one line; cleaning it again changes nothing.

    C1 controls become the characters that they are in Windows-1252, other controls, soft hyphens and other invisible
    characters are removed, runs of white space become one space, and the ends are stripped.
    """
    if _C1.search(text):
        text = _ELLIPSIS.sub("…", text.translate(_WINDOWS_1252))
    text = _INVISIBLE.sub("", text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def is_writable(text: str) -> bool:
    """Whether a model can write `text`: cleaned training text holds no invisible character and only form NFC."""
    return text.isascii() or (unicodedata.is_normalized("NFC", text) and _INVISIBLE.search(text) is None)


def fold_text(clean: str) -> str:
    """The form in which two cleaned sentences count as the same one: letter case does not matter."""
    return clean.casefold()
