"""Filters: for each, pairs that it removes and pairs that it must let pass."""

import pytest

from transformer.data.prepare.filters import FILTER_NAMES, PairFilter
from transformer.data.prepare.placeholders import mask, numbers, placeholders
from transformer.data.prepare.scripts import is_wrong_script, script_of
from transformer.params import PreparationParams

PARAMS = PreparationParams(
    max_words=10,
    max_length_ratio=1.5,
    near_duplicate_jaccard=0.5,
    valid_share=0.1,
    test_share=0.1,
    batch_pairs=10,
)


def reason(source: str, target: str, languages: str = "en-de") -> str | None:
    return PairFilter(PARAMS, *languages.split("-", 1)).reason_against(source, target)


@pytest.mark.parametrize(
    ("expected", "source", "target"),
    [
        ("empty", "", "Licht"),
        ("empty", "Light", ""),
        ("identical", "Home Assistant", "Home Assistant"),
        ("length", "w " * 10 + "w", "v " * 10),
        ("length", "w " * 10, "v " * 11),
        ("length_ratio", "Yes", "Ja, das ist ganz und gar richtig"),
        ("length_ratio", "This is a sentence of eight words altogether", "Aus"),
        ("placeholder_mismatch", "Hello {name}", "Hallo zusammen"),
        ("placeholder_mismatch", "Hello {name}", "Hallo {Name}"),
        ("placeholder_mismatch", "{a} and {a}", "{a} und"),
        ("placeholder_mismatch", "Found %d files", "Gefundene Dateien"),
        ("placeholder_mismatch", "Found %1$s in it", "Gefunden %s darin"),
        ("placeholder_mismatch", "A <b>bold</b> word", "Ein fettes Wort"),
        ("placeholder_mismatch", "See https://a.org/x", "Siehe https://a.org/y"),
        ("number_mismatch", "Wait 10 seconds", "Warte 15 Sekunden"),
        ("number_mismatch", "Zone 1", "Zone eins"),
        ("number_mismatch", "2 of 2", "2 von"),
        ("wrong_script", "Turn on", "Включить"),
        ("wrong_script", "Включить", "Einschalten"),
    ],
)
def test_removed(expected: str, source: str, target: str) -> None:
    assert reason(source, target) == expected


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("w " * 9 + "w", "v " * 9 + "v"),
        ("Charge time", "Ladezeit"),  # one word for two, but alike in characters
        ("Off", "Ausgeschaltet"),  # alike in words
        ("{name} of {place}", "{place}: {name}"),  # in another order
        ("%s of %d", "%d von %s"),
        ("100% of it", "100 % davon"),
        ("50% discount", "50% Rabatt"),  # "% d" is no placeholder
        ("Read <a href='x'>this</a> here", "Lies <a href='x'>dies</a> hier"),
        ("See https://a.org/x.", "Siehe https://a.org/x!"),
        ("a < b and b > 1", "a < b und b > 1"),
        ("1,000.5 units", "1.000,5 Einheiten"),
        ("1,000,000 people", "1 000 000 Leute"),
        ("1000 people", "1.000 Leute"),
        ("On 5 May 2014", "Am 5. Mai 2014"),
        ("USB", "USB-Stecker"),
        ("10 µm", "10 µm Ω"),
    ],
)
def test_kept(source: str, target: str) -> None:
    assert reason(source, target) is None


def test_every_filter_has_a_removed_example() -> None:
    marks = test_removed.pytestmark
    assert {values[0] for values in marks[0].args[1]} == set(FILTER_NAMES)


@pytest.mark.parametrize(
    ("languages", "source", "target"),
    [
        ("en-zh-Hans", "Allow the device to perform actions.", "允许设备执行动作。"),
        ("en-ja", "The integration was updated", "統合が更新されました"),
        ("en-ko", "Dry cleaning is finished", "드라이클리닝이 완료되었습니다"),
        ("en-th", "Turn off the light", "ปิดไฟห้องนอน"),
        ("en-ru", "Configure the USB adapter", "Настройка адаптера USB"),
    ],
)
def test_length_ratio_is_fair_to_other_scripts(languages: str, source: str, target: str) -> None:
    assert reason(source, target, languages) is None


@pytest.mark.parametrize(
    ("language", "text", "wrong"),
    [
        ("de", "Größe", False),
        ("de", "дома und", True),
        ("de", "123 – !", False),
        ("vi", "Tiếng Việt", False),
        ("ru", "Привет", False),
        ("ru", "Hello", True),
        ("ru", "USB", False),  # acronyms are not translated
        ("ru", "Порт USB HDMI VGA DVI", False),
        ("ru", "{name} <b>https://example.org/path</b> да", False),
        ("ru", "{name}", False),
        ("ru", "Settings и", True),
        ("zh-Hans", "Xiaomi Home 账户中未发现设备。", False),
        ("zh", "Open the settings 页", True),
        ("ja", "APIキー", False),
        ("ja", "Will message retain(保持)", True),
        ("ko", "Zone 3 설정", False),
        ("el", "Ελληνικά", False),
        ("el", "Ellinika", True),
        ("he", "עברית", False),
        ("ar", "عربي", False),
        ("fa", "Persian", True),
        ("hi", "हिन्दी में", False),
        ("th", "ภาษาไทย", False),
        ("ka", "ქართული", False),
        ("hy", "Հայերեն", False),
        ("ta", "தமிழ்", False),
        ("te", "తెలుగు", False),
        ("ml", "മലയാളം", False),
        ("bn", "বাংলা", False),
        ("sr", "Srpski", True),
        ("sr-Latn", "Srpski", False),
        ("sr-Latn", "Српски", True),
    ],
)
def test_wrong_script(language: str, text: str, wrong: bool) -> None:
    assert is_wrong_script(text, language) is wrong


def test_script_of_language_codes() -> None:
    codes = ["de", "pt-BR", "zh-Hant", "zh_CN", "sr-Latn", "sr_Cyrl", "RU", "xx"]
    assert [script_of(code) for code in codes] == ["Latn", "Latn", "Hani", "Hani", "Latn", "Cyrl", "Cyrl", "Latn"]


def test_what_placeholders_and_numbers_are() -> None:
    text = "{{ a }} {b} %s %(count)d %-5.2f %% 5% <br/> </p> (see https://x.org/a?b=1&c=2)."
    assert placeholders(text) == sorted(
        ["{{ a }}", "{b}", "%s", "%(count)d", "%-5.2f", "<br/>", "</p>", "https://x.org/a?b=1&c=2"]
    )
    assert numbers("H.264, 10.000,50 €, 3 000 and 12 or 192.168.0.1; ٣٤") == sorted(
        ["264", "1000050", "3000", "12", "19216801", "34"]
    )
    assert mask("Sensor 12 of {device}: %s at 3.5") == "Sensor 0 of {}: {} at 0.0"
