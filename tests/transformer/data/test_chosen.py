"""Which test sets the chosen corpora have, known before any work: those that `prepare` will make, and no other."""

from pathlib import Path

import pytest
from tiny_inputs import TINY_PARAMS

from transformer.data.download.chosen import check_choice
from transformer.errors import ParamsError
from transformer.params import Params, params_from

PAIR = "{en: a.en, de: a.de}"


def params(test_set: str) -> Params:
    evaluation = {**TINY_PARAMS["evaluation"], "test_sets": [test_set]}
    download = {**TINY_PARAMS["download"], "corpora": ["mine", "more"]}
    return params_from({**TINY_PARAMS, "download": download, "evaluation": evaluation}, "p")


@pytest.mark.parametrize(
    ("mine", "more", "there"),
    [
        ("train", "test", "more-test"),
        ("train", "valid", "mine-train"),  # no test set at all: drawn from train
        ("train", "all", "more-all"),  # drawn from those without a split alone
        ("test", "all", "mine-test, more-all"),
    ],
)
def test_the_test_sets_are_those_that_will_be_made(tmp_path: Path, mine: str, more: str, there: str) -> None:
    registry = tmp_path / "corpora.yaml"
    registry.write_text(f"mine:\n  local:\n    {mine}: {PAIR}\nmore:\n  local:\n    {more}: {PAIR}\n")
    for name in there.split(", "):
        check_choice(params(name), registry)
    with pytest.raises(ParamsError, match=rf"has no test set 'other'; there are {there}$"):
        check_choice(params("other"), registry)
