"""The stage `parent`: a model, its own lineage and what params want of it, in a folder that DVC knows by content."""

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flows.checkout.workspace import PARENT_VARIABLE, WORK, main_workspace
from transformer.errors import ParamsError
from transformer.files import sha256_of, write_json
from transformer.params import Params
from transformer.parent_folder import (
    CORPUS_FOLDER,
    DESCRIPTION_FILE,
    MODEL_FOLDER,
    OPTIMIZER_FILE,
    RECORDS_FOLDER,
    VOCABULARY_FILE,
)

if TYPE_CHECKING:
    from flows.lineage.chain import Chain
    from flows.lineage.project import Project
    from flows.parent.sources import Model

log = logging.getLogger(__name__)


def bring(params: Params, target: Path) -> None:
    """Make the folder of the parent; without one it says so and nothing else, so that its content never changes.

    Raises:
        ParamsError: nothing has the name, or there is no such vocabulary.
        DataError: files of the model or of its corpus are missing or damaged.
    """
    target.mkdir(parents=True, exist_ok=True)
    if before := os.environ.get(PARENT_VARIABLE):
        shutil.copytree(before, target, dirs_exist_ok=True)
        return
    if params.training.start_from is not None:
        _bring_model(params, params.training.start_from, target)
        return
    description: dict[str, str | None] = {"start_from": None, "resolved": None}
    if params.tokenization.model is not None:
        description |= {
            "vocabulary": params.tokenization.model,
            "vocabulary_sha256": _bring_vocabulary(params, target),
        }
    write_json(target / DESCRIPTION_FILE, description)


def _bring_vocabulary(params: Params, target: Path) -> str:
    from transformer.tokens.vocabulary import Vocabulary  # here: with the others, which take seconds

    asked = params.tokenization.model
    assert asked is not None
    path = next((place for place in (Path(asked), main_workspace() / asked) if place.is_file()), None)
    if path is None:
        raise ParamsError(
            f"tokenization.model = {asked!r}: there is no such file; name a SentencePiece model, or null"
        )
    Vocabulary.load(path).check_special(path)
    shutil.copyfile(path, target / VOCABULARY_FILE)
    return sha256_of(target / VOCABULARY_FILE)


def _bring_model(params: Params, asked: str, target: Path) -> None:
    from flows.lineage.project import Project  # here: most trainings have no parent, and these take seconds
    from flows.parent.optimizer import bring_optimizer
    from flows.parent.sources import copied, found_model
    from transformer.training.parent import Parent

    project = Project(Path.cwd())
    with found_model(project, asked) as model:
        copied(model.folder, target / MODEL_FOLDER)
        sha256 = sha256_of(target / MODEL_FOLDER)
        chain = _chain(project, model, target / MODEL_FOLDER)
        write_json(target / DESCRIPTION_FILE, {"start_from": asked, "resolved": model.resolved, "sha256": sha256})
        if parent := Parent.open(target):  # before hours of work, what the training would refuse
            parent.check_network(params.languages, params.model)
        log.info("%s is %s, sha256 %s", asked, model.resolved, sha256)
        if chain is None:
            log.warning("warning: no lineage record knows %s: its chain ends with its hash", model.resolved)
        else:
            _bring_records(chain, target / RECORDS_FOLDER)
        if params.training.start_optimizer == "taken":
            bring_optimizer(model.resolved, target / MODEL_FOLDER, main_workspace() / WORK, target / OPTIMIZER_FILE)
        wanted = [
            *(["train"] if params.preparation.mix else []),
            *(["valid"] if params.training.forgetting_limit is not None else []),
        ]
        if wanted:
            from flows.parent.corpus import bring_corpus

            bring_corpus(project, chain, model.resolved, wanted, target / CORPUS_FOLDER)


def _chain(project: "Project", model: "Model", folder: Path) -> "Chain | None":
    """The chain behind the model, by the records of this checkout, of MLflow, or of the checkout that it lies in."""
    from flows.lineage.project import Project
    from flows.lineage.targets import chain_of_content

    places = [project, *([Project(model.checkout, model.checkout)] if model.checkout else [])]
    found = (chain_of_content(place, model.resolved, folder) for place in places)
    return next(filter(None, found), None)


def _bring_records(chain: "Chain", folder: Path) -> None:
    """The records of the chain, and below them those of its own parent's; without what was filled in later."""
    for step in chain.steps:
        if step.record:
            runs = step.record.runs.model_copy(update={"mlflow": None})
            write_json(folder / f"{step.stage}.json", step.record.model_copy(update={"runs": runs}).model_dump())
    if chain.parent:
        _bring_records(chain.parent, folder / "parent")
