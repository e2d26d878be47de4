"""What language codes mean, however they are spelled."""

import pytest

from transformer.languages import (
    UnknownLanguageError,
    is_ideographic,
    is_unsegmented,
    main_language,
    parse,
    same_language,
    scripts_of,
    spelling_of,
)


@pytest.mark.parametrize(
    ("code", "main", "scripts"),
    [
        ("de", "de", "Latn"),
        ("deu", "de", "Latn"),
        ("ger", "de", "Latn"),
        ("deu_Latn", "de", "Latn"),
        ("pt-BR", "pt", "Latn"),
        ("zh", "zh", "Hans Hant"),
        ("zho", "zh", "Hans Hant"),
        ("chi", "zh", "Hans Hant"),
        ("cmn", "zh", "Hans Hant"),
        ("zh_CN", "zh", "Hans Hant"),
        ("zh-Hans", "zh", "Hans"),
        ("zho_Hant", "zh", "Hant"),
        ("ZH-hans", "zh", "Hans"),
        ("yue", "yue", "Hans Hant"),
        ("sr", "sr", "Cyrl Latn"),
        ("sr_Latn", "sr", "Latn"),
        ("rus", "ru", "Cyrl"),
        ("kor", "ko", "Kore"),
        ("arb", "ar", "Arab"),
        ("arb_Arab", "ar", "Arab"),
        ("or", "or", "Orya"),
        ("dv", "dv", "Thaa"),
        ("bo", "bo", "Tibt"),
        ("ba", "ba", "Cyrl"),
        ("mai", "mai", "Deva"),
        ("hi", "hi", "Deva"),  # romanised Hindi is too rare
        ("iu", "iu", "Cans Latn"),
        ("no", "no", "Latn"),
        ("nor", "no", "Latn"),
        ("iw", "he", "Hebr"),
        ("qaa", "qaa", ""),
    ],
)
def test_languages_and_scripts(code: str, main: str, scripts: str) -> None:
    assert main_language(code) == main
    assert scripts_of(code) == set(scripts.split())


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("xx", "write it as in de"),
        ("jp", "did you mean ja?"),
        ("cz", "did you mean cs?"),
        ("german", "did you mean de?"),
        ("", "write it"),
        ("de_DE.UTF-8", "write it"),
        ("und", "write it"),
        ("mul", "write it"),
        ("zh-", "write it"),
    ],
)
def test_codes_of_no_language(code: str, hint: str) -> None:
    with pytest.raises(
        UnknownLanguageError, match=f"^{code!r} is not a known language code: {hint}".replace("?", r"\?")
    ):
        parse(code)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("de", "ger", True),
        ("de", "de-DE", True),
        ("ar", "arb", True),
        ("zh", "cmn", True),
        ("zh", "zho_Hans", True),
        ("zh-Hans", "zh-Hant", False),
        ("pt-BR", "pt-PT", False),
        ("sr-Latn", "sr-Cyrl", False),
        ("nb", "nn", False),
        ("en", "de", False),
    ],
)
def test_the_same_language(first: str, second: str, same: bool) -> None:
    assert same_language(first, second) is same
    assert same_language(second, first) is same


@pytest.mark.parametrize(
    ("code", "available", "expected"),
    [
        ("de", ["en", "de"], "de"),
        ("deu", ["en", "de"], "de"),
        ("de", ["eng", "ger"], "ger"),
        ("zh_CN", ["zh-Hans", "zh-Hant"], "zh-Hans"),
        ("zh-TW", ["zh-Hans", "zh-Hant"], "zh-Hant"),
        ("zh-Hant", ["zho_Hans", "zho_Hant"], "zho_Hant"),
        ("pt", ["pt-BR", "pt"], "pt"),
        ("pt", ["pt-BR"], "pt-BR"),
        ("en", ["en-GB"], None),
        ("arb", ["ar", "fa"], "ar"),
        ("fa", ["ar", "pes_Arab"], "pes_Arab"),
        ("fr", ["source", "target", "de"], None),
    ],
)
def test_how_a_corpus_spells_a_language(code: str, available: list[str], expected: str | None) -> None:
    assert spelling_of(code, available) == expected


@pytest.mark.parametrize(
    ("code", "unsegmented", "ideographic"),
    [
        *((code, True, True) for code in ("zh", "zh-Hant", "ja", "yue", "wuu")),
        *((code, True, False) for code in ("th", "km", "lo", "my", "bo", "shn", "dz", "tha_Thai")),
        *((code, False, False) for code in ("ko", "vi", "de", "ru", "am", "qaa")),
    ],
)
def test_languages_without_spaces(code: str, unsegmented: bool, ideographic: bool) -> None:
    assert (is_unsegmented(code), is_ideographic(code)) == (unsegmented, ideographic)
