"""Training learns, accumulates, validates, stops and fails as promised."""

import json
import math
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from corpora import Pairs, write_tokens
from tiny_inputs import TINY_PARAMS
from trainings import prepared, tiny_tokens, trained

from transformer.bleu import Tokenizer
from transformer.decoding.greedy import greedy
from transformer.errors import DataError, DivergedError, InterruptedTrainingError
from transformer.model.checkpoints import read_weights
from transformer.params import Params, TokenizationParams, params_from
from transformer.tokens.vocabulary import BOS, EOS, PAD
from transformer.training.train import Figures
from transformer.training.validation import greedy_bleu, validation_loss
from transformer.training.waiting import run_settings
from transformer.working_folder import name_of, working_folder


def params(model: dict[str, Any] | None = None, threads: int = 1, **training: Any) -> Params:
    content = {
        **TINY_PARAMS,
        "model": {**TINY_PARAMS["model"], **(model or {})},
        "training": {**TINY_PARAMS["training"], **training},
        "compute": {**TINY_PARAMS["compute"], "threads": threads},
    }
    return params_from(content, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("training"))


def test_a_reversed_sequence_is_learned(tmp_path: Path) -> None:
    """Word order reversed, each letter a word: wrong attention, masks or positions cannot solve it."""
    random_ = random.Random(1)
    sources = [" ".join(random_.choices("abcdef", k=random_.randint(2, 5))) for _ in range(5200)]
    pairs: Pairs = [(source, " ".join(reversed(source.split()))) for source in dict.fromkeys(sources)]
    held_out = pairs[-200:]
    vocabulary = TokenizationParams(
        vocabulary_size=272, character_coverage=1.0, training_pairs=10_000, model=None, new_pieces=0
    )
    tokens = write_tokens(tmp_path, {"train": pairs[:-200], "valid": held_out, "test": held_out}, vocabulary)
    asked = params(
        {"d_model": 64, "d_ff": 128, "heads": 4, "encoder_layers": 1, "decoder_layers": 1},
        updates=600, batch_target_tokens=600, length_groups=4, micro_batch_tokens=1200, warmup_updates=100,
        learning_rate_scale=0.15, label_smoothing=0.0, validate_every=600, checkpoint_every_updates=300,
        seed=2,
    )  # fmt: skip
    trained(tmp_path, tokens, asked)
    run = prepared(asked, tokens)
    run.model.load_state_dict(read_weights(tmp_path / "checkpoints" / "update-00000600.safetensors"))
    run.model.eval()
    right = 0
    with torch.no_grad():
        for index in range(200):
            (found,) = greedy(run.model, torch.from_numpy(run.valid.source[index].astype(np.int64))[None])
            right += found == run.valid.target[index].tolist()[:-1]
    assert right / 200 > 0.99, right


def test_accumulated_micro_batches_equal_one_big_batch(tokens: Path) -> None:
    """By Adam's first moments, a tenth of the first gradient: weights would show the sign of mere rounding too."""
    found = []
    for micro_batch_tokens, threads in (100_000, 1), (64, 3):  # one after the other; two at a time
        run = prepared(params(micro_batch_tokens=micro_batch_tokens, threads=threads), tokens)
        work = run.work([run.train_sentences[:40], run.train_sentences[40:70]])
        loss = run.update(1, work)
        moments = {name: run.optimizer.state[one]["exp_avg"] for name, one in run.model.named_parameters()}
        found.append((float(loss) / work.tokens, moments))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, moment in found[0][1].items():
        assert moment.abs().max() > 0, name
        torch.testing.assert_close(moment, found[1][1][name], atol=1e-7, rtol=1e-3)


def test_the_update_is_adam_on_the_mean_loss_a_target_token(tokens: Path) -> None:
    """One update against torch's own cross-entropy and Adam, on a padded batch built by hand."""
    asked = params()
    ours, reference = prepared(asked, tokens), prepared(asked, tokens)
    sentences = ours.train_sentences[:30]
    ours.update(1, ours.work([sentences[:10], sentences[10:]]))

    def pad(rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor([row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows])

    source = pad([reference.train.source[i].tolist() for i in sentences])
    target = [reference.train.target[i].tolist() for i in sentences]
    logits = reference.model(source, pad([[BOS, *row[:-1]] for row in target]))
    F.cross_entropy(logits.transpose(1, 2), pad(target), ignore_index=PAD, label_smoothing=0.1).backward()
    rate = 32**-0.5 * min(1, 20**-1.5)
    torch.optim.Adam(reference.model.parameters(), lr=rate, betas=(0.9, 0.98), eps=1e-9).step()
    theirs = dict(reference.model.named_parameters())
    for name, mine in ours.model.named_parameters():
        gradient = theirs[name].grad
        assert gradient is not None
        clear = gradient.abs() > 1e-6  # Adam's first step is rate x sign(gradient): below, the sign is rounding
        torch.testing.assert_close(mine[clear], theirs[name][clear], atol=1e-6, rtol=1e-4)
        assert clear.float().mean() > 0.5, name


def test_validation_loss_and_bleu_against_plain_ones(tokens: Path) -> None:
    run = prepared(params(), tokens)
    run.model.eval()
    total, count = 0.0, 0
    hypotheses, references = [], []
    with torch.no_grad():
        for index in range(len(run.valid)):
            source = torch.tensor([run.valid.source[index].tolist()])
            target = run.valid.target[index].tolist()
            logits = run.model(source, torch.tensor([[BOS, *target[:-1]]]))
            total += F.cross_entropy(logits[0], torch.tensor(target), reduction="sum").item()
            count += len(target)
            words = [BOS]
            while len(words) <= source.size(1) + 50 and words[-1] != EOS and len(words) <= 64:
                words.append(int(run.model(source, torch.tensor([words]))[0, -1].argmax()))
            hypotheses.append(run.vocabulary.decode(words))
            references.append(run.vocabulary.decode(target))
        found = validation_loss(run.model, run.valid, run.valid_sentences, 100, torch.float32)
        bleu = greedy_bleu(run.model, run.vocabulary, run.valid, run.valid_sentences, "13a")
    assert found == pytest.approx(total / count, rel=1e-5)
    assert bleu == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)


def test_another_tokeniser_of_bleu_is_told_and_is_another_run(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a machine that lacks the first one's packages: its BLEU must not go on in the same curve."""
    trained(tmp_path, tokens, params())
    assert "tokeniser" not in caplog.text
    runs = set((tmp_path / "work").iterdir())
    lacking = Tokenizer("char", "mecab is missing")
    monkeypatch.setattr("transformer.training.train.tokenizer_for", lambda language: lacking)
    trained(tmp_path, tokens, params())
    assert "validation BLEU is computed with the tokeniser char: mecab is missing" in caplog.text
    assert set((tmp_path / "work").iterdir()) - runs


def test_outputs_curves_and_records(tmp_path: Path, tokens: Path) -> None:
    records: list[Figures] = []
    checkpoints = trained(tmp_path, tokens, params({"dropout": 0.1}), records.append)
    index = json.loads((checkpoints / "index.json").read_text())
    assert [entry["update"] for entry in index["checkpoints"]] == [20, 30, 40]
    assert index["last"] == "update-00000040.safetensors"
    training = pd.read_csv(tmp_path / "curves" / "training.csv")
    assert training["update"].tolist() == list(range(5, 41, 5))
    assert training["loss"].iloc[-1] < training["loss"].iloc[0]
    rate = 32**-0.5 * min(5**-0.5, 5 * 20**-1.5)
    assert training["learning_rate"].iloc[0] == pytest.approx(rate, abs=1e-6)
    validation = pd.read_csv(tmp_path / "curves" / "validation.csv")
    assert validation["update"].tolist() == [20, 40]
    assert validation["perplexity"].tolist() == pytest.approx([math.exp(x) for x in validation["loss"]], rel=1e-5)
    report = json.loads((tmp_path / "training.json").read_text())
    assert report.keys() == {"updates", "epochs", "target_tokens"}  # and nothing that a clock decides
    assert report["updates"] == 40
    logged = {record.update: record.metrics for record in records if "train/loss" in record.metrics}
    assert [round(logged[update]["train/loss"], 6) for update in training["update"]] == training["loss"].tolist()


def test_an_early_stop_keeps_the_best(tmp_path: Path, tokens: Path) -> None:
    asked = params(updates=400, validate_every=5, early_stopping_patience=2, learning_rate_scale=30.0)
    checkpoints = trained(tmp_path, tokens, asked)
    losses = pd.read_csv(tmp_path / "curves" / "validation.csv")["loss"].tolist()
    assert len(losses) < 80
    assert losses.index(min(losses)) == len(losses) - 3
    index = json.loads((checkpoints / "index.json").read_text())
    best = next(entry for entry in index["checkpoints"] if entry["file"] == index["best"])
    assert best["valid_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_a_diverged_loss_stops_and_names_update_and_batch(tmp_path: Path, tokens: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"the loss became (nan|inf) at update \d+ \(rows \d+, .*train\.parquet\)"
    ):
        trained(tmp_path, tokens, params(learning_rate_scale=1e30))
    assert not (tmp_path / "checkpoints").exists()


def test_a_signal_saves_and_the_rest_is_as_if_it_had_not_come(tmp_path: Path, tokens: Path) -> None:
    asked = params({"dropout": 0.2})

    def interrupt(record: Figures) -> None:
        if record.update == 15:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError, match="SIGTERM: training stopped at update 15 with its state saved"):
        trained(tmp_path / "a", tokens, asked, interrupt)
    seen: list[int] = []
    resumed = trained(tmp_path / "a", tokens, asked, lambda record: seen.append(record.update))
    assert seen[0] == 20
    whole = trained(tmp_path / "b", tokens, asked)
    for path in sorted(whole.iterdir()):
        assert path.read_bytes() == (resumed / path.name).read_bytes()
    for name in ("training.csv", "validation.csv"):
        assert (tmp_path / "a" / "curves" / name).read_bytes() == (tmp_path / "b" / "curves" / name).read_bytes()


def test_a_finished_run_is_not_trained_again(tmp_path: Path, tokens: Path) -> None:
    first = trained(tmp_path, tokens, params()) / "update-00000040.safetensors"
    content = first.read_bytes()
    first.unlink()
    records: list[Figures] = []
    trained(tmp_path, tokens, params(), records.append)
    assert records == []
    assert first.read_bytes() == content


def test_other_params_or_tokens_are_another_run(tmp_path: Path, tokens: Path) -> None:
    changed = tmp_path / "tokens"
    changed.mkdir()
    for path in tokens.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())

    def run_name(settings: dict[str, Any], tokens: Path) -> str:
        return name_of(run_settings(settings, tokens))

    settings = {"training": {"seed": 1}}
    assert run_name(settings, tokens) == run_name(settings, changed)
    assert run_name({"training": {"seed": 2}}, tokens) != run_name(settings, tokens)
    ids = changed / "train.source.ids.npy"
    ids.write_bytes(ids.read_bytes()[:-1] + b"\xff")
    assert run_name(settings, changed) != run_name(settings, tokens)


def test_a_working_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        working_folder(tmp_path, "held"),
        pytest.raises(DataError, match="held is in use"),
        working_folder(tmp_path, "held"),
    ):
        pass
