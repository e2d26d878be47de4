"""What can be known before any work starts: params.yaml, data/corpora.yaml, and the devices of this machine."""

from pathlib import Path

from flows.checkout.workspace import PARAMS, REGISTRY
from transformer.bleu import check_tokenizer
from transformer.data.download.chosen import check_choice, check_local_files, chosen_corpora
from transformer.data.download.corpora import load_corpora
from transformer.errors import ParamsError
from transformer.evaluation.comet_score import check_comet
from transformer.params import ComputeParams, EvaluationParams, Params, load_params


def read_params(folder: Path = Path()) -> Params:
    """The params of a checkout, checked by themselves and, where it is there, against the corpus registry.

    Raises:
        ParamsError: one line that names the file, the key, the value and what is allowed.
    """
    params = load_params(folder / PARAMS)
    if (folder / REGISTRY).exists():  # DVC and `download` miss it, the other stages don't
        check_choice(params, folder / REGISTRY)
    check_evaluation(params.evaluation)
    return params


def check_evaluation(evaluation: EvaluationParams) -> None:
    """Refuse what this machine lacks for the scores that are asked for.

    Raises:
        ParamsError: names the key and what is missing.
    """
    check_tokenizer(evaluation)
    check_comet(evaluation)


def check_checkout(folder: Path = Path()) -> None:
    """What `read_params` checks, the user's own files, and whether this machine has the devices of `compute`.

    Raises:
        ParamsError: as of `read_params`, or there is no such device.
    """
    params = read_params(folder)
    registry = folder / REGISTRY
    check_local_files(
        chosen_corpora(params.download, params.languages, load_corpora(registry), registry),
        params.languages,
        registry,
    )
    check_machine(params.compute)


def check_machine(compute: ComputeParams) -> None:
    """Refuse devices that this machine does not have.

    Raises:
        ParamsError: names the key and what there is.
    """
    if compute.device in ("auto", "cpu") and compute.devices * compute.nodes == 1:
        return
    from transformer.training.launch import check_devices  # here: torch takes seconds to import

    try:
        check_devices(compute)
    except ParamsError as error:
        raise ParamsError(f"{PARAMS}: compute.device = {compute.device!r}: {error}") from None
