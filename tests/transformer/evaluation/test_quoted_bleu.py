"""Every BLEU against the command lines that people compute it with, and the paper's against multi-bleu's own sums."""

import json
import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.pipeline.report import report
from flows.summary import summary
from transformer.evaluation.published import PUBLISHED, beside_published
from transformer.evaluation.scores import compounds_split, moses_tokenised, quoted_bleus

LINES = {
    "de": [
        "Die deutsch-französische Zusammenarbeit (seit 1963) ist, so Dr. Müller, „ein Erfolg“.",
        "Am 3. Mai stieg der DAX-Kurs um 2,5 % auf 9.603,23 Punkte - so hoch wie nie!",
        "Wer's glaubt: A-B-C-Schützen & Co. wohnen z. B. in Baden-Württemberg [Süd-West].",
        'Das U-Bahn-Netz wächst; "wir bauen weiter", sagte der Ober-Bürgermeister.',
        "\u2013 Er kam\u00a0um 8:30 Uhr, nicht früher\u2026 oder doch?",
    ],
    "fr": [
        "Aujourd'hui, l'homme d'affaires s'est-il rendu à l'Assemblée ?",
        "M. Dupont a-t-il dit : « C'est 1 234,5 euros, n'est-ce pas ? »",
        "Le week-end dernier, le sous-directeur d'Île-de-France (72 ans) est parti.",
    ],
}


def perturbed(language: str) -> tuple[list[str], list[str]]:
    """Hypotheses and references: the lines above, long enough for four-grams, with words lost, swapped and in lower
    case on one side."""
    random_ = random.Random(3)
    references = [" ".join(random_.sample(LINES[language], 2)) for _ in range(60)]
    hypotheses = []
    for reference in references:
        words = [word for word in reference.split(" ") if random_.random() < 0.92]
        words = [word.lower() if random_.random() < 0.1 else word for word in words]
        place = random_.randrange(len(words) - 1)
        words[place : place + 2] = reversed(words[place : place + 2])
        hypotheses.append(" ".join(words))
    return hypotheses, references


def piped(command: list[str], text: str) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def sacrebleu(folder: Path, sides: tuple[list[str], list[str]], *options: str) -> float:
    for name, lines in zip(("hypotheses", "references"), sides, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "references"), "-i", str(folder / "hypotheses")]
    return float(piped([*command, "-b", "-w", "6", *options], ""))


def sacremoses(lines: list[str], language: str) -> list[str]:
    command = [sys.executable, "-m", "sacremoses", "-l", language, "-q", "tokenize"]
    return piped(command, "".join(f"{line}\n" for line in lines)).splitlines()


def multi_bleu(hypotheses: list[str], references: list[str]) -> float:
    """The sums of Moses' multi-bleu.perl, from the definition of BLEU."""
    right, total = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        ours, theirs = hypothesis.split(" "), reference.split(" ")
        for n in range(1, 5):
            counts = [Counter(zip(*(side[i:] for i in range(n)), strict=False)) for side in (ours, theirs)]
            right[n - 1] += (counts[0] & counts[1]).total()
            total[n - 1] += counts[0].total()
    length, wanted = total[0], sum(len(line.split(" ")) for line in references)
    brevity = math.exp(min(0.0, 1 - wanted / length))
    precisions = [r / t for r, t in zip(right, total, strict=True)]
    return 100 * brevity * math.exp(sum(map(math.log, precisions)) / 4)


@pytest.mark.parametrize("language", ["de", "fr"])
def test_each_score_is_that_of_the_command_lines(tmp_path: Path, language: str) -> None:
    raw = perturbed(language)
    tokenised = sacremoses(raw[0], language), sacremoses(raw[1], language)
    plain = ["-tok", "none", "-s", "none", "--force"]
    expected = {
        "13a": sacrebleu(tmp_path, raw),
        "lc": sacrebleu(tmp_path, raw, "-lc"),
        "intl": sacrebleu(tmp_path, raw, "-tok", "intl"),
        "tokenised": sacrebleu(tmp_path, tokenised, *plain),
    }
    if language == "de":
        split = compounds_split(tokenised[0]), compounds_split(tokenised[1])
        expected["tokenised_split"] = sacrebleu(tmp_path, split, *plain)
    found = quoted_bleus(*raw, language)
    assert {name: bleu.value for name, bleu in found.items()} == pytest.approx(expected, abs=1e-6)
    assert len({round(bleu.value, 3) for bleu in found.values()}) == len(
        found
    )  # or the test would not tell them apart
    assert (
        len({bleu.signature for bleu in found.values()}) == len({bleu.label for bleu in found.values()}) == len(found)
    )


def test_the_tokenised_scores_are_multi_bleus() -> None:
    tokenised = [moses_tokenised(side, "de") for side in perturbed("de")]
    found = quoted_bleus(*perturbed("de"), "de")
    assert found["tokenised"].value == pytest.approx(multi_bleu(*tokenised))
    assert found["tokenised_split"].value == pytest.approx(multi_bleu(*map(compounds_split, tokenised)))


COMPOUNDS = {
    "rich-text format": "rich ##AT##-##AT## text format",
    "a-b-c-d": "a ##AT##-##AT## b-c ##AT##-##AT## d",
    "- x -": "- x -",
    "Köln-Ost": "Köln ##AT##-##AT## Ost",
    "A-ü-B": "A ##AT##-##AT## ü ##AT##-##AT## B",  # two bytes: one for each hyphen
    "": "",
}


def test_compounds_at_hand_split_lines() -> None:
    assert compounds_split(list(COMPOUNDS)) == list(COMPOUNDS.values())


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl")
def test_compounds_are_split_as_tensor2tensor_did() -> None:
    lines = [*COMPOUNDS, "--", "##AT##-##AT##", *moses_tokenised(perturbed("de")[0], "de")]
    perl = piped(["perl", "-ple", r"s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g"], "\n".join(lines) + "\n")
    assert compounds_split(lines) == perl.split("\n")[:-1]


def test_signatures_say_how_and_with_which_versions() -> None:
    found = quoted_bleus(*perturbed("de"), "de-DE")
    assert "|case:mixed|" in found["13a"].signature
    assert "|case:lc|" in found["lc"].signature
    assert "|tok:intl|" in found["intl"].signature
    assert "|tok:none|smooth:none|" in found["tokenised_split"].signature
    assert found["tokenised_split"].signature.startswith(f"{found['tokenised'].signature}|compounds:split")
    assert "|moses:de|sacremoses:" in found["tokenised"].signature


def test_other_languages_have_only_the_scores_that_make_sense() -> None:
    assert list(quoted_bleus(["en bok på bordet"], ["en bok på et bord"], "nb")) == ["13a", "lc", "intl"]
    assert list(quoted_bleus(["今天天气很好。"], ["今天天气不好。"], "zh-Hans")) == ["zh"]


def metrics_of(languages: str, test_set: str) -> dict[str, object]:
    bleus = {
        name: {"bleu": bleu.value, "label": bleu.label, "signature": bleu.signature}
        for name, bleu in quoted_bleus(*perturbed("de"), "de").items()
    }
    interval = {
        "bleu": 27.0,
        "bleu_low": 26.0,
        "bleu_high": 28.0,
        "chrf": 55.0,
        "chrf_plus_plus": 53.0,
        "ter": 60.0,
        "sentences": 3003,
    }
    return {
        "languages": languages,
        "tests": {test_set: {**interval, "bleus": bleus}},
        "last_checkpoint": {"bleu": 26.5},
    }


def shown(workspace: Path, metrics: dict[str, object]) -> tuple[str, str]:
    """What the summary prints and what the flow's report holds."""
    (workspace / "reports").mkdir(exist_ok=True)
    (workspace / "reports" / "metrics.json").write_text(json.dumps(metrics))
    console = Console(file=StringIO(), width=220)
    console.print(summary(workspace / "reports" / "metrics.json"))
    return console.file.getvalue(), report(workspace, {})


def test_summary_and_report_show_published_figures_of_the_same_set_and_kind(tmp_path: Path) -> None:
    for text in shown(tmp_path, metrics_of("en-de", "newstest2014")):
        assert "full set of 3003 lines" in text
        for wanted in ("27.3", "28.4", "27.52", "29.02", "28.6", "29.29", "issue 317", "|compounds:split"):
            assert wanted in text
        assert "38.1" not in text
    for text in shown(tmp_path, metrics_of("en-de", "newstest2014-filtered")):
        assert "2737 lines" in text
        assert "29.29" not in text
    assert not any("the paper, base" in text for text in shown(tmp_path, metrics_of("de-en", "newstest2014")))
    rows = [line for line in shown(tmp_path, metrics_of("en-de", "news"))[1].splitlines() if "tok:13a" in line]
    assert [row.replace("\\|", "").count("|") for row in rows] == [4, 4]  # a signature's bars end no cell


def test_published_figures_stand_below_ours_of_the_same_kind() -> None:
    one = {"label": "sacreBLEU, 13a", "bleu": 27.456, "signature": "s"}
    rows = beside_published({"13a": one}, "en-de", "newstest2014")
    assert rows[0] == ["sacreBLEU, 13a", "27.46", "s"]
    assert [row[1] for row in rows[1:]] == ["27.52", "28.6"]
    assert {(one.languages, one.model): one.bleu for one in PUBLISHED if one.model.startswith("the paper")} == {
        ("en-de", "the paper, base"): 27.3,
        ("en-de", "the paper, big"): 28.4,
        ("en-fr", "the paper, base"): 38.1,
        ("en-fr", "the paper, big"): 41.8,
    }
