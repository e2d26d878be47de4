"""What a person is told when a training begins, and what clock and machine have made of it at its end."""

import logging
from typing import Any

from transformer.bleu import Tokenizer
from transformer.training.resume import TrainingState
from transformer.training.run import Run

log = logging.getLogger(__name__)


def announce(run: Run, state: TrainingState, tokenizer: Tokenizer) -> None:
    """Say what is trained, where and on how much."""
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    pairs, left_out = len(run.train_sentences), len(run.train) - len(run.train_sentences)
    log.info("%.1f million weights on %s in %s", weights / 1e6, run.device, str(run.precision).removeprefix("torch."))
    if run.ranks.world > 1:
        machines = run.ranks.world // run.ranks.on_this_machine
        log.info("%d ranks, %d on each of %d machines", run.ranks.world, run.ranks.on_this_machine, machines)
    log.info("%d training pairs, %d left out as longer than model.max_positions", pairs, left_out)
    if run.settings.micro_batch_tokens is None:
        log.info("training.micro_batch_tokens: null, which is %d on this device", run.micro_batch_tokens)
    if run.packed:
        log.info("sentences are packed without padding; the first update compiles the network, which takes minutes")
    if state.update:
        log.info("resuming after update %d", state.update)
    if tokenizer.reason:
        log.warning("validation BLEU is computed with the tokeniser %s: %s", *tokenizer)


def measured(run: Run, state: TrainingState) -> dict[str, Any]:
    """What clock and machine decided."""
    return {
        "device": str(run.device),
        "precision": str(run.precision).removeprefix("torch."),
        "world_size": run.ranks.world,
        "target_tokens_per_second": round(state.target_tokens / max(state.seconds, 1e-9), 1),
        "training_seconds": round(state.seconds, 1),
        "elapsed_seconds": round(state.elapsed, 1),
    }
