"""Filters: for each, pairs that it removes and pairs that it must let pass."""

import pytest
from raw_parts import FILTERS

from transformer.data.placeholders import mask, placeholders
from transformer.data.prepare.filters import FILTER_NAMES, PairFilter
from transformer.data.prepare.numerals import number_mismatch
from transformer.data.prepare.scripts import is_wrong_script
from transformer.params import FilterParams

PARAMS = FILTERS.model_copy(update={"length": 10, "length_in_characters": 20})


def reason(source: str, target: str, languages: str = "en-de", **changed: object) -> str | None:
    filters = FilterParams.model_validate({**PARAMS.model_dump(), **changed})
    return PairFilter(filters, *languages.split("-", 1)).reason_against(source, target)


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
    assert {values[0] for values in marks[0].args[1]} == set(FILTER_NAMES) - {"length_in_characters"}


def test_every_filter_is_off_when_it_is_switched_off() -> None:
    removed = list(test_removed.pytestmark[0].args[1])
    removed.append(("length_in_characters", "One two three four five six", "一二三四五六七八九十" * 3))
    for name, source, target in removed:
        languages = "en-zh" if name == "length_in_characters" else "en-de"
        everything = dict.fromkeys(FILTER_NAMES, False)
        assert reason(source, target, languages, **{**everything, name: getattr(PARAMS, name)}) == name
        assert reason(source, target, languages, **everything) is None
        assert reason(source, target, languages, **{name: False}) != name


@pytest.mark.parametrize(
    ("language", "removed"),
    [
        *((language, True) for language in ("zh", "ja", "th", "km", "bo", "yue-Hant")),
        *((language, False) for language in ("ko", "de", "ru", "vi")),
    ],
)
def test_length_in_characters_is_for_languages_without_spaces(language: str, removed: bool) -> None:
    filters = FILTERS.model_copy(update={"length_in_characters": 5, "wrong_script": False})
    for pair in (PairFilter(filters, "en", language), PairFilter(filters, language, "en")):
        assert pair.has_bad_length_in_characters("abcdef", "abcdef") is removed
        assert not pair.has_bad_length_in_characters("abcde", "abcde")


@pytest.mark.parametrize(
    ("languages", "source", "target"),
    [
        ("en-zh-Hans", "Allow the device to perform actions.", "允许设备执行动作。"),
        ("en-ja", "The integration was updated", "統合が更新されました"),
        ("en-ko", "Dry cleaning is finished", "드라이클리닝이 완료되었습니다"),
        ("en-th", "Turn off the light", "ปิดไฟห้องนอน"),
        ("en-hi", "All people are born free", "सभी मनुष्य जन्मजात स्वतन्त्र हैं"),
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
        ("sr", "Srpski", False),  # written in both
        ("sr-Cyrl", "Srpski", True),
        ("uz", "Ўзбек", False),
        ("uz", "Oʻzbekcha", False),
        ("uz", "中文翻译", True),
        ("bs", "Босански", False),
        ("or", "ଓଡ଼ିଆ ଭାଷା", False),
        ("or", "Odia language", True),
        ("dv", "ދިވެހި", False),
        ("bo", "བོད་སྐད", False),
        ("ba", "Башҡорт теле", False),
        ("mai", "मैथिली", False),
        ("rus", "Русский", False),
        ("rus", "Russian text", True),
        ("kor", "한국어 문장", False),
        ("arb", "العربية", False),
        ("arb", "Arabic text", True),
        ("zho_Hant", "繁體中文", False),
        ("zho_Hant", "Traditional", True),
        ("am", "አማርኛ", False),
        ("sat", "ᱥᱟᱱᱛᱟᱲᱤ", False),
        ("mni_Mtei", "ꯃꯤꯇꯩꯂꯣꯟ", False),
        ("mni_Beng", "ꯃꯤꯇꯩꯂꯣꯟ", True),
        ("ja", "サーバー", False),  # the long-vowel mark belongs to several scripts
        ("yi", "ייִדיש", False),
        ("qaa", "anything – что угодно", False),  # a private code: no script is known
        ("sr-Latn", "Srpski", False),
        ("sr-Latn", "Српски", True),
    ],
)
def test_wrong_script(language: str, text: str, wrong: bool) -> None:
    assert is_wrong_script(text, language) is wrong


def test_what_placeholders_are() -> None:
    text = "{{ a }} {b} %s %(count)d %-5.2f %% 5% <br/> </p> (see https://x.org/a?b=1&c=2)."
    assert placeholders(text) == sorted(
        ["{{ a }}", "{b}", "%s", "%(count)d", "%-5.2f", "<br/>", "</p>", "https://x.org/a?b=1&c=2"]
    )
    assert mask("Sensor 12 of {device}: %s at 3.5") == "Sensor 0 of {}: {} at 0.0"


# What only writes a number otherwise, in both directions and under both rules.
SAME_NUMBERS = [
    ("September 11, 2001", "2001年9月11日"),
    ("September 11, 2001", "2001년 9월 11일"),
    ("11 September 2001", "11.09.2001"),
    ("on 3 October 2024", "am 2024-10-03"),
    ("10/3/2001", "2001年10月3日"),
    ("at 9:30", "um 9.30 Uhr"),
    ("at 9:30", "à 9h30"),
    ("at 9pm", "um 21 Uhr"),
    ("at 9:00 p.m.", "um 21:00 Uhr"),
    ("at nine o'clock", "um 9 Uhr"),
    ("at nine", "9時に"),
    ("Chapter 06", "6. Kapitel"),
    ("the 11th of 12", "die 11. von 12"),
    ("its 1st day", "le 1er jour"),
    ("10,000.50 euros", "10.000,5 Euro"),
    ("1,234,567 people", "1 234 567 Menschen"),
    ("1,234,567 people", "1'234'567 Menschen"),
    ("12,34,567 people", "1234567 Menschen"),
    ("chapter 34", "الفصل ٣٤"),
    ("1,000.5 metres", "١٬٠٠٠٫٥ متر"),
    ("chapter 34", "第３４章"),
    ("1,000 people", "１，０００人"),
    ("H.264, 10.000,50 € and 192.168.0.1", "192.168.0.1, H.264 und 10,000.5 €"),
    ("20 thousand crowns", "20.000 Kronen"),
    ("118,800 tourists", "118,8 Tausend Touristen"),
    ("50,000 people", "5万人"),
    ("1.2 billion people", "12亿人"),
    ("2.5 million", "2500000"),
]


@pytest.mark.parametrize("rule", ["any", "conflict"])
@pytest.mark.parametrize(("source", "target"), SAME_NUMBERS)
def test_numbers_that_are_only_written_otherwise(source: str, target: str, rule: str) -> None:
    assert not number_mismatch(source, target, rule)
    assert not number_mismatch(target, source, rule)


@pytest.mark.parametrize("rule", ["any", "conflict"])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Wait 10 seconds", "Warte 15 Sekunden"),
        ("Wait 10 seconds", "Warte 100 Sekunden"),
        ("September 11, 2001", "2001年9月12日"),
        ("11.09.2001", "2001年10月11日"),
        ("at 9pm", "um 20 Uhr"),
        ("at 9:30", "um 9.45 Uhr"),
        ("20 thousand", "30.000"),
        ("10.5 metres", "10,6 Meter"),
        ("٣٤", "35"),
    ],
)
def test_numbers_that_contradict_each_other(source: str, target: str, rule: str) -> None:
    assert number_mismatch(source, target, rule)
    assert number_mismatch(target, source, rule)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("for ten years", "seit 10 Jahren"),
        ("the 19th century", "XIXe siècle"),
        ("Zone 1", "Zone"),
        ("at 21:00", "um neun"),  # a word for an hour goes up to twelve
        ("in 3 hr", "in drei Stunden"),  # not a time on the clock
        ("2 of 2", "2 von"),
    ],
)
def test_a_number_that_one_side_lacks_is_no_contradiction(source: str, target: str) -> None:
    for one, other in ((source, target), (target, source)):
        assert number_mismatch(one, other, "any")
        assert not number_mismatch(one, other, "conflict")
