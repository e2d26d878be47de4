"""What a language code means: language, script, region. Everyone who needs to know asks here.

Codes are BCP 47 tags (`zh-Hans`, `pt-BR`), the same with underscores as in FLORES (`zho_Hans`, `zh_CN`), and ISO 639
codes of two or three letters (`de`, `deu`, `ger`); `langcodes` reads them, with CLDR's tables.
"""

from collections.abc import Iterable
from functools import cache

import langcodes
from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES
from langcodes.tag_parser import LanguageTagError
from language_data.population_data import LANGUAGE_WRITING_POPULATION

# Scripts of languages that are written without spaces between words (ISO 15924); Korean puts spaces.
IDEOGRAPHIC_SCRIPTS = frozenset({"Hani", "Hans", "Hant", "Hanb", "Bopo", "Jpan", "Hira", "Kana", "Hrkt"})
SOUTH_EAST_ASIAN_SCRIPTS = frozenset({"Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Lana", "Tale", "Talu", "Tavt"})
# A script counts as one of a language's if so many of those who write the language use it: Bosnian is written in
# Cyrillic letters too (7 %), but romanised Hindi (0.2 %) in a Hindi corpus is a fault of the corpus.
SHARE_OF_WRITERS = 0.01
_NO_LANGUAGE = (None, "und", "mul", "mis", "zxx")  # ISO 639's codes for undetermined, several, other, none


class UnknownLanguageError(ValueError):
    """A code that names no language; the message says so in one line."""


@cache
def parse(code: str) -> langcodes.Language:
    """The language that `code` names, in canonical form: `zh_CN`, `zho-CN` and `zh-CN` are one.

    Raises:
        UnknownLanguageError: not a code, or a code of no language.
    """
    try:
        language = langcodes.Language.get(code)
    except LanguageTagError:
        language = langcodes.Language.make()
    if language.language in _NO_LANGUAGE or not language.is_valid():
        raise UnknownLanguageError(f"{code!r} is not a known language code{_suggestion(code)}")
    return language


def _suggestion(code: str) -> str:
    """What was meant: a language by its name (`german`), or by the country where it is spoken (`jp`)."""
    spoken = LIKELY_SUBTAGS.get(f"und-{code.upper()}")
    try:
        meant = spoken.split("-")[0] if spoken else langcodes.find(code).to_tag()
    except LookupError:
        return ": write it as in de, deu, zh-Hans or zho_Hans"
    return f": did you mean {meant}?"


def main_language(code: str) -> str:
    """The language without script or region, of two letters where ISO 639 has two: `zh` of `zho_Hans` and `cmn`."""
    return str(parse(code).prefer_macrolanguage().language)


def same_language(first: str, second: str) -> bool:
    """Whether two codes name the same language in the same script and region; what a code leaves open is likely."""
    return _likely(first) == _likely(second)


def spelling_of(code: str, available: Iterable[str]) -> str | None:
    """How a corpus that offers the codes `available` spells the language `code`; None where it has no such language.

    The same spelling is preferred, then another spelling of the same code, then one that is likely the same:
    `zh_CN` finds `zho-CN`, otherwise `zh-Hans`.
    """
    offered = list(available)
    if code in offered:
        return code
    known = [spelling for spelling in offered if _is_known(spelling)]
    exact = (spelling for spelling in known if parse(spelling) == parse(code))
    likely = (spelling for spelling in known if same_language(spelling, code))
    return next(exact, None) or next(likely, None)


@cache
def scripts_of(code: str) -> frozenset[str]:
    """The scripts (ISO 15924) that texts in a language may be written in, such as {"Cyrl", "Latn"} of `sr`.

    The code's own script tag decides; without one, CLDR's likely scripts of the language anywhere, and those that one
    of a hundred of its writers uses. Empty where neither knows the language.
    """
    language = parse(code)
    if language.script:
        return frozenset({language.script})
    name = str(language.language)
    found = _scripts_in_tables(name)
    return found or _scripts_in_tables(MACROLANGUAGES.get(name, main_language(code)))


def _scripts_in_tables(language: str) -> frozenset[str]:
    found = set()
    for tag, likely in LIKELY_SUBTAGS.items():
        if _script_in(tag, language) is None and tag.split("-")[0] == language:
            found.add(likely.split("-")[1])
    least = SHARE_OF_WRITERS * LANGUAGE_WRITING_POPULATION.get(language, 0)
    for tag, writers in LANGUAGE_WRITING_POPULATION.items():
        script = _script_in(tag, language)
        if script is not None and writers >= least:
            found.add(script)
    return frozenset(found)


def _script_in(tag: str, language: str) -> str | None:
    """The script that a tag of the language names, as in `sr-Latn`."""
    name, _, rest = tag.partition("-")
    script = rest.split("-")[0]
    return script if name == language and script.istitle() else None


def is_ideographic(code: str) -> bool:
    """Whether the language is written in Chinese characters or kana, without spaces between words."""
    return bool(scripts_of(code)) and scripts_of(code) <= IDEOGRAPHIC_SCRIPTS


def is_unsegmented(code: str) -> bool:
    """Whether the language is written without spaces between words."""
    return is_ideographic(code) or is_south_east_asian(code)


def is_south_east_asian(code: str) -> bool:
    """Whether the language is written in letters without spaces between words, as Thai, Khmer or Tibetan."""
    return bool(scripts_of(code)) and scripts_of(code) <= SOUTH_EAST_ASIAN_SCRIPTS


@cache
def _likely(code: str) -> str:
    return str(parse(code).prefer_macrolanguage().maximize().to_tag())


def _is_known(code: str) -> bool:
    try:
        parse(code)
    except UnknownLanguageError:
        return False
    return True
