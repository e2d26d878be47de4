"""A guard against forgetting: the loss on the validation set of the model that the training started from."""

from transformer.errors import DivergedError
from transformer.model.checkpoints import Checkpoint
from transformer.training.resume import TrainingState

OLD_LOSS = "old_loss"  # the column of the validation curve


def forgets(state: TrainingState, row: dict[str, float], limit: float | None) -> str | None:
    """What to say where a validation lies more than `limit` nats above the loss that the parent began with."""
    if limit is None or state.old_loss is None or row[OLD_LOSS] <= state.old_loss + limit:
        return None
    return (
        f"early stop: the loss on the parent's validation set is {row[OLD_LOSS]:.3f}, more than "
        f"training.forgetting_limit = {limit:g} above the parent's {state.old_loss:.3f}"
    )


def remembering(state: TrainingState, told: str) -> list[Checkpoint]:
    """The checkpoints up to the last validation within the limit; later ones are not kept.

    Raises:
        DivergedError: there is none.
    """
    good = [row["update"] for row in state.validation_curve if row["update"] < state.update]
    kept = [one for one in state.checkpoints if good and one.update <= good[-1]]
    if not kept:
        raise DivergedError(
            f"{told}, and no earlier checkpoint was within it: lower training.learning_rate_scale, raise "
            "preparation.mix or the limit, or validate more often"
        )
    return kept
