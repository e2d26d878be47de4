"""What a retraining begins with: random weights, or the champion of the moment."""

from typing import Any, Literal

from flows.checkout.workspace import model_name, tracking_uri
from flows.promotion.registered_model import RegisteredModel
from transformer.errors import ParamsError
from transformer.params import Params

Start = Literal["scratch", "champion"]


# What is about a parent, as it is without one.
SCRATCH: dict[str, Any] = {
    "training.start_from": None,
    "training.start_optimizer": "fresh",
    "training.forgetting_limit": None,
    "preparation.mix": 0.0,
}


def with_start(start: Start | None, overrides: dict[str, Any], params: Params) -> dict[str, Any]:
    """The overrides of `params` together with those for this start: the champion by its number, as the alias moves.

    Raises:
        ParamsError: there is no champion, or the overrides name another parent.
    """
    if start is None:
        return overrides
    if (named := overrides.get("training.start_from")) is not None:
        raise ParamsError(f"start = {start}: overrides name another parent, training.start_from = {named}; leave one")
    if start == "scratch":
        pieces = {} if params.tokenization.model else {"tokenization.new_pieces": 0}
        return SCRATCH | pieces | overrides
    registered = RegisteredModel(tracking_uri(), model_name(params.languages))
    champion = registered.champion()
    if champion is None:
        raise ParamsError(
            f"start = champion: {registered.name} has no champion at {registered.uri}; retrain with start = scratch, "
            "or choose one with python -m flows.promotion --to VERSION"
        )
    return {"training.start_from": f"{registered.name}/{champion.number}", **overrides}
