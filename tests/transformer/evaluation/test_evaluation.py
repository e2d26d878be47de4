"""Metrics against sacrebleu's own command line; groups by hand; the stage on a tiny model folder."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from tiny_model import sentence, tiny_config, tiny_vocabulary, tiny_weights

from transformer.decoding.translator import Translator
from transformer.errors import DataError, ParamsError
from transformer.evaluation.analysis import MIN_SENTENCES, by_length, by_origin, length_bucket, repeats
from transformer.evaluation.evaluate import evaluate, read_test_sets
from transformer.evaluation.plots import draw_curves, read_curve
from transformer.evaluation.scores import (
    bleu_and_chrf,
    bleu_metric,
    paired_bootstrap,
    score_corpus,
    sentence_chrf,
)
from transformer.model.checkpoints import Checkpoint, write_checkpoint, write_index
from transformer.model.folder import write_config, write_model
from transformer.params import Params

PNG = b"\x89PNG\r\n\x1a\n"


def noisy_corpus(sentences: int) -> tuple[list[str], list[str]]:
    """References with punctuation and umlauts, and hypotheses with words wrong, missing and swapped."""
    random_ = random.Random(5)
    text = "Das Licht, im Flur geht an; wenn sich die Tür (2.5 m) öffnet und jemand „kommt“."
    words = text.split()
    references = [" ".join(random_.choices(words, k=random_.randint(3, 20))) for _ in range(sentences)]
    hypotheses = []
    for reference in references:
        kept = [word if random_.random() < 0.8 else "Haus" for word in reference.split() if random_.random() < 0.9]
        if random_.random() < 0.3:
            kept.reverse()
        hypotheses.append(" ".join(kept))
    return hypotheses, references


def command_line(folder: Path, hypotheses: list[str], references: list[str], *options: str) -> list[dict[str, Any]]:
    """What `sacrebleu` itself prints, as JSON, four decimals."""
    for name, lines in (("hypotheses", hypotheses), ("references", references)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "references"), "-i", str(folder / "hypotheses")]
    command += ["-m", "bleu", "chrf", "ter", "-w", "4", *options]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_metrics_equal_sacrebleus_command_line(tmp_path: Path) -> None:
    hypotheses, references = noisy_corpus(80)
    scores = score_corpus(hypotheses, references, "de", bootstrap_samples=200)
    printed = command_line(tmp_path, hypotheses, references, "--confidence", "--confidence-n", "200")
    for name, score, expected in zip(
        ("BLEU", "chrF2", "TER"), (scores.bleu, scores.chrf, scores.ter), printed, strict=True
    ):
        assert expected["name"] == name
        assert score.value == pytest.approx(expected["score"], abs=1e-4)
        assert score.low == pytest.approx(expected["confidence_mean"] - expected["confidence_var"], abs=2e-4)
        assert score.high == pytest.approx(expected["confidence_mean"] + expected["confidence_var"], abs=2e-4)
        assert score.signature == expected["signature"]
        assert score.low < score.value < score.high

    options = ("--chrf-word-order", "2", "--ter-normalized", "--ter-asian-support")
    plus_plus, ter = command_line(tmp_path, hypotheses, references, *options)[1:]
    assert (plus_plus["name"], scores.chrf_plus_plus.value) == (
        "chrF2++",
        pytest.approx(plus_plus["score"], abs=1e-4),
    )
    assert "|nw:2|" in scores.chrf_plus_plus.signature
    thai = score_corpus(hypotheses, references, "th", 100, "13a")
    assert thai.ter.value == pytest.approx(ter["score"], abs=1e-4)
    assert thai.ter.signature.replace("bs:100|seed:12345|", "") == ter["signature"]

    bleu, chrf, _ = command_line(tmp_path, hypotheses, references)
    assert bleu_and_chrf(hypotheses, references, "de") == pytest.approx((bleu["score"], chrf["score"]), abs=1e-4)
    assert scores.length_ratio == pytest.approx(
        float(bleu["verbose_score"].split("ratio = ")[1].split()[0]), abs=1e-3
    )

    first = command_line(tmp_path, hypotheses[:1], references[:1])[1]
    assert sentence_chrf(hypotheses, references)[0] == pytest.approx(first["score"], abs=1e-4)


def test_perfect_and_hopeless_translations() -> None:
    _, references = noisy_corpus(30)
    perfect = score_corpus(references, references, "de", 100)
    assert (perfect.bleu.value, perfect.chrf.value, perfect.ter.value) == pytest.approx((100, 100, 0))
    assert perfect.length_ratio == 1
    nothing = score_corpus([""] * 30, references, "de", 100)
    assert (nothing.bleu.value, nothing.chrf.value, nothing.ter.value) == pytest.approx((0, 0, 100))


@pytest.mark.parametrize(
    ("language", "tokenizer", "asian"),
    [("de", "13a", "norm:no|punct:yes|asian:no"), ("zh_CN", "zh", "norm:yes|punct:yes|asian:yes")],
)
def test_languages_without_spaces_have_their_own_tokenizers(language: str, tokenizer: str, asian: str) -> None:
    scores = score_corpus(["今天天气很好。"] * 3, ["今天天气不好。"] * 3, language, 100)
    assert f"|tok:{tokenizer}|" in scores.bleu.signature
    assert f"|{asian}|" in scores.ter.signature
    # One of seven characters is wrong, or the only word.
    assert scores.ter.value == pytest.approx(100 / 7 if language == "zh_CN" else 100)
    assert "|tok:intl|" in score_corpus(["a"], ["a"], language, 100, "intl").bleu.signature


def test_buckets_at_hand_counted_lengths() -> None:
    assert [length_bucket(words, [5, 10]) for words in (1, 5, 6, 10, 11, 90)] == [
        "1-5", "1-5", "6-10", "6-10", "11+", "11+",
    ]  # fmt: skip
    assert [length_bucket(words, [1, 2]) for words in (1, 2, 3)] == ["1", "2", "3+"]


def test_groups_by_length_hold_their_own_sentences() -> None:
    sources = ["a b c d e f g", "one", "h i j k l m", "two three"]
    references = ["das ist ein langer Satz mit Wörtern", "eins", "noch ein langer Satz ist hier", "zwei drei"]
    hypotheses = [references[0], "falsch", references[2], "auch ganz"]
    groups = by_length(sources, hypotheses, references, [5, 10], "de")
    assert list(groups) == ["1-5", "6-10"]
    assert [group.sentences for group in groups.values()] == [2, 2]
    assert groups["6-10"].bleu == pytest.approx(100)
    assert groups["1-5"].bleu == 0
    assert groups["1-5"].chrf == pytest.approx(
        bleu_and_chrf([hypotheses[1], hypotheses[3]], [references[1], references[3]], "de")[1]
    )


def test_rare_origins_are_counted_together() -> None:
    hypotheses, references = noisy_corpus(MIN_SENTENCES + 5)
    origins = ["set/large"] * MIN_SENTENCES + ["set/a", "set/b", "set/a", "set/c", "set/a"]
    groups = by_origin(origins, hypotheses, references, "de")
    assert {name: group.sentences for name, group in groups.items()} == {"set/large": MIN_SENTENCES, "other": 5}
    expected = bleu_and_chrf(hypotheses[MIN_SENTENCES:], references[MIN_SENTENCES:], "de")
    assert (groups["other"].bleu, groups["other"].chrf) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("ja ja ja", True),
        ("er sagt nein nein nein .", True),
        ("an und aus an und aus an und aus", True),
        ("a b c d a b c d a b c d e", True),
        ("ja ja", False),
        ("an und aus an und aus", False),
        ("nein neinnein nein", False),
        ("", False),
    ],
)
def test_repetition_is_three_times_in_a_row(text: str, loops: bool) -> None:
    assert repeats(text) is loops


def write_test_split(corpus: Path, rows: list[tuple[str, str, str]]) -> Path:
    corpus.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["source", "target", "origin"]).to_parquet(corpus / "test.parquet")
    return corpus / "test.parquet"


def test_test_sets_are_looked_up_by_the_beginning_of_their_origin(tmp_path: Path) -> None:
    path = write_test_split(tmp_path, [("a", "A", "news/x"), ("b", "B", "flickr"), ("c", "C", "news/y")])
    flickr, news = read_test_sets(path, ["flickr", "news"])
    assert (flickr.sources, flickr.references) == (["b"], ["B"])
    assert (news.sources, news.references, news.origins) == (["a", "c"], ["A", "C"], ["news/x", "news/y"])
    with pytest.raises(ParamsError, match=r"'new' is not a test set of .*those there: flickr, news") as caught:
        read_test_sets(path, ["flickr", "new"])
    assert "\n" not in str(caught.value)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the stages before leave: corpus, a model folder, two checkpoints, report and curves."""
    rows = [(sentence(seed, 2 + seed % 9), sentence(seed + 500, 5), f"tiny-test/{seed % 2}") for seed in range(30)]
    rows += [(sentence(seed, 4), sentence(seed + 500, 4), "second") for seed in range(100, 106)]
    write_test_split(tmp_path / "corpus", rows)
    vocabulary = tiny_vocabulary()
    config = tiny_config(vocabulary)
    write_model(tmp_path / "model", config, tiny_weights(vocabulary), vocabulary)
    (tmp_path / "checkpoints").mkdir()
    kept = [Checkpoint(10, 2.0), Checkpoint(20, 3.0)]
    for checkpoint in kept:
        write_checkpoint(
            tmp_path / "checkpoints", checkpoint, tiny_weights(vocabulary, seed=checkpoint.update), vocabulary.model
        )
    write_index(tmp_path / "checkpoints", kept)
    write_config(tmp_path / "checkpoints", config)
    curves = tmp_path / "reports" / "curves"
    curves.mkdir(parents=True)
    (curves / "training.csv").write_text("update,loss,learning_rate\n5,8.1,0.0001\n10,6.2,0.0002\n")
    (curves / "validation.csv").write_text("update,loss,perplexity,bleu\n10,6.0,403.4,\n20,5.0,148.4,1.5\n")
    return tmp_path


def run_stage(workspace: Path, params: Params) -> None:
    evaluation = params.evaluation.model_copy(update={"test_sets": ["tiny-test", "second"]})
    evaluate(
        params.languages,
        params.decoding,
        evaluation,
        params.decoding_device,
        corpus=workspace / "corpus",
        model=workspace / "model",
        checkpoints=workspace / "checkpoints",
        reports=workspace / "reports",
    )


def test_stage_writes_metrics_translations_and_plots(workspace: Path, tiny_params: Params) -> None:
    run_stage(workspace, tiny_params)
    reports = workspace / "reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    frame = pd.read_parquet(workspace / "corpus" / "test.parquet")
    headline = frame[frame.origin.str.startswith("tiny-test/")]

    rows = [json.loads(line) for line in (reports / "translations" / "tiny-test.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == headline.source.tolist()
    assert [row["reference"] for row in rows] == headline.target.tolist()
    expected = Translator.load(workspace / "model", decoding=tiny_params.decoding).translate(headline.source.tolist())
    assert [row["hypothesis"] for row in rows] == expected
    assert all(row["score"] < 0 for row in rows)

    printed = command_line(workspace, expected, headline.target.tolist())
    test = metrics["test"]
    assert [test["bleu"], test["chrf"], test["ter"]] == pytest.approx([one["score"] for one in printed], abs=0.006)
    assert test["bleu_low"] <= test["bleu"] <= test["bleu_high"]
    assert "bs:100|" in test["bleu_signature"]
    assert test["sentences"] == 30
    assert metrics["tests"]["tiny-test"] == test
    assert metrics["tests"]["second"]["sentences"] == 6
    assert (metrics["languages"], metrics["precision"]) == ("en-de", "fp32")
    for scores in metrics["tests"].values():
        assert list(scores["bleus"]) == ["13a", "lc", "intl", "tokenised", "tokenised_split"]
        assert scores["bleus"]["13a"]["bleu"] == scores["bleu"]
        assert all(one["label"] and "|version:" in one["signature"] for one in scores["bleus"].values())
    assert sum(group["sentences"] for group in metrics["by_length"].values()) == 30
    assert {name: group["sentences"] for name, group in metrics["by_origin"].items()} == {"other": 30}

    table = pd.read_csv(reports / "plots" / "bleu_by_length.csv")
    assert table.words.tolist() == list(metrics["by_length"])
    assert table.bleu.tolist() == [group["bleu"] for group in metrics["by_length"].values()]
    for name in ("bleu_by_length", "loss", "learning_rate", "bleu"):
        assert (reports / "plots" / f"{name}.png").read_bytes().startswith(PNG)


def test_last_checkpoint_is_scored_beside_the_average(workspace: Path, tiny_params: Params) -> None:
    run_stage(workspace, tiny_params)
    metrics = json.loads((workspace / "reports" / "metrics.json").read_text())
    frame = pd.read_parquet(workspace / "corpus" / "test.parquet").head(30)
    last = tiny_vocabulary()
    write_model(workspace / "last", tiny_config(last), tiny_weights(last, seed=20), last)
    hypotheses = Translator.load(workspace / "last", decoding=tiny_params.decoding).translate(frame.source.tolist())
    bleu, chrf = bleu_and_chrf(hypotheses, frame.target.tolist(), "de")
    assert metrics["last_checkpoint"] == pytest.approx({"bleu": bleu, "chrf": chrf}, abs=0.006)
    assert metrics["last_checkpoint"]["chrf"] != metrics["test"]["chrf"]


def test_stage_repeated_gives_the_same_bytes(workspace: Path, tiny_params: Params) -> None:
    def outputs() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (workspace / "reports").rglob("*") if path.is_file()}

    run_stage(workspace, tiny_params)
    first = outputs()
    run_stage(workspace, tiny_params)
    assert outputs() == first
    assert len(first) == 13


def test_several_references_all_count(workspace: Path, tiny_params: Params) -> None:
    """sacreBLEU over two streams is the oracle; a sentence of the second set has only one."""
    rows = [(sentence(seed, 4), sentence(seed + 500, 4), "tiny-test") for seed in range(8)] + [("a", "A", "second")]
    further = [[sentence(seed + 900, 4)] for seed in range(8)] + [None]
    path = write_test_split(workspace / "corpus", rows)
    frame = pd.read_parquet(path)
    frame["further"] = further
    frame.to_parquet(path)
    run_stage(workspace, tiny_params)
    test = json.loads((workspace / "reports" / "metrics.json").read_text())["test"]
    lines = (workspace / "reports" / "translations" / "tiny-test.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["further_references"] for one in found] == further[:8]
    hypotheses = [one["hypothesis"] for one in found]
    columns = [[row[1] for row in rows[:8]], [one[0] for one in further[:8] if one]]
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
        assert test[name] == pytest.approx(metric.corpus_score(hypotheses, columns).score, abs=0.006)
        assert test[f"{name}_signature"].startswith("nrefs:2|")
    assert test["bleus"]["13a"]["bleu"] == test["bleu"]
    assert "further_references" not in (workspace / "reports" / "translations" / "second.jsonl").read_text()


def test_stage_on_degenerate_test_sets(workspace: Path, tiny_params: Params) -> None:
    """Three lines with an empty reference, and one without a source, of which nothing can be translated."""
    rows = [(sentence(1, 4), "nothing like it", "tiny-test"), (sentence(2, 3), "", "tiny-test")]
    write_test_split(workspace / "corpus", [*rows, (sentence(3, 2), "z", "tiny-test"), ("", "leer", "second")])
    run_stage(workspace, tiny_params)
    metrics = json.loads((workspace / "reports" / "metrics.json").read_text())["tests"]
    assert (metrics["tiny-test"]["sentences"], metrics["second"]["sentences"]) == (3, 1)
    assert (metrics["second"]["bleu"], metrics["second"]["chrf"], metrics["second"]["ter"]) == (0, 0, 100)


@pytest.mark.parametrize("name", ["corpus/test.parquet", "reports/curves/training.csv",
                                  "checkpoints/index.json", "model/config.json"])  # fmt: skip
def test_missing_input_is_named(workspace: Path, tiny_params: Params, name: str) -> None:
    (workspace / name).unlink()
    with pytest.raises(DataError, match=Path(name).name) as caught:
        run_stage(workspace, tiny_params)
    assert "\n" not in str(caught.value)


def test_training_without_validation_bleu_has_no_picture_of_it(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("update,loss,learning_rate\n5,8.1,0.0001\n")
    (tmp_path / "validation.csv").write_text("update,loss,perplexity\n5,8.0,2981.0\n")
    draw_curves(tmp_path / "plots", tmp_path)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"loss.png", "learning_rate.png"}


def test_malformed_curve_names_file_line_and_cell(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    path.write_text("update,loss\n1,2.5\n2,\n")
    assert read_curve(path) == {"update": [1, 2], "loss": [2.5, None]}
    path.write_text("update,loss\n1,2.5\n2,low\n")
    with pytest.raises(DataError, match=r"training.csv, line 3: loss = 'low' is not a number"):
        read_curve(path)


def test_the_paired_bootstrap_tells_equal_better_and_worse_translations_apart() -> None:
    references = [f"this is sentence {number} of a small test set" for number in range(40)]
    worse = [reference.replace("small test", "test small") for reference in references]
    metrics = {"bleu": bleu_metric("en")}
    equal = paired_bootstrap(worse, worse, references, metrics, 100)["bleu"]
    assert (equal.baseline, equal.p_value) == (equal.system, 1.0)
    better = paired_bootstrap(worse, references, references, metrics, 100)["bleu"]
    assert better.baseline == equal.baseline
    assert better.system == pytest.approx(100)
    assert better.p_value < 0.05
