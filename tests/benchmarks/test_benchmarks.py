"""The benchmarks of training and decoding run on a bare CPU, and compare like with like."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_inputs import CHECKOUT, TINY_PARAMS
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.newstest import SOURCE_QUANTILES, random_split, sentence_lengths
from benchmarks.torch_transformer import TorchTransformer
from benchmarks.training import BASELINE, PACKED, PADDED, measure, print_heading, print_row
from transformer.model.transformer import Transformer
from transformer.params import ModelParams, params_from
from transformer.tokens.vocabulary import EOS
from transformer.training.batching import assemble

PARAMS = params_from(TINY_PARAMS, "test")


def test_lengths_are_distributed_as_newstests() -> None:
    source, target = sentence_lengths(100_000)
    found = np.quantile(source - 1, np.linspace(0.05, 0.95, 19))
    assert np.abs(found - SOURCE_QUANTILES[1:-1]).max() <= 1
    assert np.log((target - 1) / (source - 1)).std() == pytest.approx(0.19, abs=0.02)
    split = random_split(1000, 500)
    assert (split.target.lengths == sentence_lengths(1000)[1]).all()
    assert all(split.source[index][-1] == EOS and (split.source[index][:-1] > EOS).all() for index in range(50))


def test_the_baseline_is_the_same_network_in_torchs_words() -> None:
    """As many weights, and as many operations by torch's counter."""
    shape = ModelParams(**{**TINY_PARAMS["model"], "norm": "pre"})
    batch = assemble(random_split(8, 400), np.arange(8)).to(torch.device("meta"))
    with torch.device("meta"):
        ours, theirs = Transformer(shape, 400), TorchTransformer(shape, 400, 0.1, torch.float32)
    assert sum(weight.numel() for weight in ours.parameters()) == sum(one.numel() for one in theirs.parameters())
    counted = []
    for network in ours, theirs:
        with FlopCounterMode(display=False) as counter:
            network(batch.source, batch.target_in).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1]


def test_a_table_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    print_heading("tiny", PARAMS)
    for name in BASELINE, PADDED:
        found = measure(name, PARAMS, None, 2)
        assert found is not None
        assert found.tokens_per_second * found.seconds_per_update < 300
        assert found.utilization is None
        print_row(found, 2 * found.tokens_per_second)
    assert measure(PACKED, PARAMS, None, 2) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["configuration", "tokens/s", "ms/update"]
    assert [line.split()[-2] for line in lines[2:]] == ["0.50", "0.50"]


def test_a_bare_machine_is_enough() -> None:
    program = (
        "import sys, json, benchmarks.training, benchmarks.decoding\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert not {"prefect", "dvc", "mlflow", "flows", "requests"} & set(json.loads(done.stdout))


def test_decoding_prints_its_speed() -> None:
    asked = [sys.executable, "-m", "benchmarks.decoding", "--preset", "interface-strings", "--sentences", "3"]
    done = subprocess.run(asked, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert "3 sentences, beam 4" in done.stdout
