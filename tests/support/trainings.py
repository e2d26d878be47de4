"""Trainings as the tests start them: from whole params, of which a training takes four sections."""

from pathlib import Path
from typing import Any

from corpora import write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs

from transformer.params import (
    ComputeParams,
    LanguageParams,
    ModelParams,
    Params,
    TokenizationParams,
    TrainingParams,
)
from transformer.training.run import Run
from transformer.training.train import train


def tiny_tokens(folder: Path) -> Path:
    """The tokenize stage's folder, below `folder`: 200 synthetic training pairs, 30 of validation and 30 of test."""
    pairs = synthetic_pairs(260)
    splits = {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}
    return write_tokens(folder, splits, TokenizationParams(**TINY_PARAMS["tokenization"]))


def sections(params: Params) -> tuple[LanguageParams, ModelParams, TrainingParams, ComputeParams]:
    """What `train` and `launch` take of params."""
    return params.languages, params.model, params.training, params.compute


def prepared(params: Params, tokens: Path) -> Run:
    """A run before its first update."""
    return Run.prepare(params.model, params.training, params.compute, tokens)


def trained(folder: Path, tokens: Path, params: Params, on_figures: Any = lambda figures: None) -> Path:
    """Train with all output below `folder`; returns the folder of the checkpoints."""
    train(
        *sections(params),
        tokens=tokens,
        work=folder / "work",
        checkpoints=folder / "checkpoints",
        report=folder / "training.json",
        curves=folder / "curves",
        on_figures=on_figures,
    )
    return folder / "checkpoints"
