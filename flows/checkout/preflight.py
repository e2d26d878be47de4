"""What can be known before any work starts: params.yaml, data/corpora.yaml, and the devices of this machine."""

from pathlib import Path

from flows.checkout.workspace import PARAMS, REGISTRY
from transformer.bleu import check_tokenizer
from transformer.data.download.chosen import check_choice, check_local_files, chosen_corpora
from transformer.data.download.corpora import load_corpora
from transformer.errors import ParamsError
from transformer.evaluation.comet_score import check_comet
from transformer.params import EvaluationParams, ExportParams, Params, load_params


def read_params(folder: Path = Path()) -> Params:
    """The params of a checkout, checked by themselves and, where it is there, against the corpus registry.

    Raises:
        ParamsError: one line that names the file, the key, the value and what is allowed.
    """
    params = load_params(folder / PARAMS)
    if (folder / REGISTRY).exists():  # DVC and `download` miss it, the other stages don't
        check_choice(params, folder / REGISTRY)
    check_evaluation(params.evaluation)
    check_export(params.export)
    return params


def check_evaluation(evaluation: EvaluationParams) -> None:
    """Refuse what this machine lacks for the scores that are asked for.

    Raises:
        ParamsError: names the key and what is missing.
    """
    check_tokenizer(evaluation)
    check_comet(evaluation)


def check_export(export: ExportParams) -> None:
    """Refuse formats whose packages are missing, before a training that they would end.

    Raises:
        ParamsError: names the key and what is missing.
    """
    if not export.formats:
        return
    from transformer.export.export import check_formats  # here: torch takes seconds to import

    try:
        check_formats(export)
    except ParamsError as error:
        raise ParamsError(f"{PARAMS}: export.formats = {export.formats}: {error}") from None


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
    check_machine(params)


def check_machine(params: Params) -> None:
    """Refuse devices that this machine does not have.

    Raises:
        ParamsError: names the key and what there is.
    """
    compute, plain = params.compute, ("auto", "cpu")
    if compute.device in plain and params.decoding.device in plain and compute.devices * compute.nodes == 1:
        return
    from transformer.model.device import select_device  # here: torch takes seconds to import
    from transformer.training.launch import check_devices

    key, device = "compute.device", compute.device
    try:
        check_devices(compute)
        key, device = "decoding.device", params.decoding.device
        select_device(device)
    except ParamsError as error:
        raise ParamsError(f"{PARAMS}: {key} = {device!r}: {error}") from None
