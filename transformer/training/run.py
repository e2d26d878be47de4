"""One training run: the network, the optimizer, the data, and the update that moves them (paper, section 5)."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from transformer.data.tokenize.store import TokenSplit
from transformer.data.tokenize.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.errors import DeviceMemoryError, DivergedError
from transformer.model.device import autocast, select_device, select_precision
from transformer.model.dropout import seed_dropout
from transformer.model.transformer import Transformer
from transformer.params import Params
from transformer.training.batching import (
    Indices,
    Update,
    assemble,
    micro_batches,
    padded_tokens,
    target_token_count,
    usable_sentences,
)
from transformer.training.cores import Cores
from transformer.training.objective import smoothed_cross_entropy
from transformer.training.ranks import ALONE, Alone, Ranks
from transformer.training.resume import Progress
from transformer.training.schedule import learning_rate
from transformer.training.validation import Validation, greedy_bleu, validation_loss


@dataclass
class Run:
    """What an update needs; all of it follows from params and the token folder."""

    params: Params
    device: torch.device
    precision: torch.dtype
    vocabulary: Vocabulary
    train: TokenSplit
    valid: TokenSplit
    train_sentences: Indices
    valid_sentences: Indices
    model: Transformer
    optimizer: torch.optim.Optimizer
    cores: Cores
    ranks: Alone

    @classmethod
    def prepare(cls, params: Params, tokens: Path, ranks: Alone = ALONE) -> "Run":
        """Open the data and initialise the network from the seed."""
        device = select_device(params.training.device)
        threads = (params.training.threads or torch.get_num_threads()) // ranks.on_this_machine
        cores = Cores(device, max(1, threads), params.training.length_groups if ranks.world == 1 else 1)
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory it has not written. torch's stubs do not know the setting.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.allow_tf32 = True
        vocabulary = Vocabulary.load(tokens / VOCABULARY_FILE)
        train, valid = (TokenSplit.open(tokens, split) for split in ("train", "valid"))
        torch.manual_seed(params.training.seed)
        model = Transformer(params.model, vocabulary.size).to(device)
        betas = (params.training.adam_beta1, params.training.adam_beta2)
        return cls(
            params=params,
            device=device,
            precision=select_precision(params.training.precision, device),
            vocabulary=vocabulary,
            train=train,
            valid=valid,
            train_sentences=usable_sentences(train, params.model.max_positions),
            valid_sentences=usable_sentences(valid, params.model.max_positions),
            model=model,
            optimizer=torch.optim.Adam(
                model.parameters(), lr=0.0, betas=betas, eps=params.training.adam_epsilon, fused=device.type != "mps"
            ),
            cores=cores,
            ranks=ranks,
        )

    def begin(self, progress: Progress) -> Progress:
        """Where training goes on, on all ranks: where the first one stands."""
        self.model.train()
        with _kernels(self.device):
            probe = self.train_sentences[:1]
            return self.ranks.begin(progress, self.model, self.optimizer, lambda: self._loss(probe))

    def learning_rate(self, update: int) -> float:
        """The schedule at this update, counted from 1."""
        return learning_rate(update, self.params.model.d_model, self.params.training)

    def update(self, update: int, groups: Update) -> tuple[Tensor, int]:
        """One step of the optimizer on these groups; returns the summed loss (a device scalar) and its tokens.

        The gradient is that of the mean loss over the update's target tokens, however many micro-batches share
        them. Dropout's randomness is a function of (seed, update, micro-batch), so that resume needs no generator
        state.

        Raises:
            DeviceMemoryError: a micro-batch does not fit.
        """
        training = self.params.training
        self.model.train()
        tokens = sum(target_token_count(self.train, group) for group in groups)
        pieces = [part for group in groups for part in micro_batches(self.train, group, training.micro_batch_tokens)]
        parameters = list(self.model.parameters())

        def loss_of(index: int) -> Tensor:
            seed_dropout(dropout_seed(training.seed, update, index), self.device)
            return self._loss(pieces[index])

        def gradients(index: int) -> list[Tensor]:
            loss = loss_of(index)
            return [loss.detach(), *torch.autograd.grad(loss / tokens, parameters)]

        try:
            with _kernels(self.device):
                if isinstance(self.ranks, Ranks):
                    costs = [padded_tokens(self.train, piece) for piece in pieces]
                    total = self.ranks.backward(loss_of, costs, tokens)
                else:
                    total, *sums = summed(self.cores.map(gradients, len(pieces)))
                    for parameter, gradient in zip(parameters, sums, strict=True):
                        parameter.grad = gradient
        except torch.OutOfMemoryError:
            limit = f"training.micro_batch_tokens = {training.micro_batch_tokens}"
            raise DeviceMemoryError(f"{limit} does not fit into the memory of {self.device}: lower it") from None
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(update)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total, tokens

    def validate(self) -> Validation:
        """Loss over the validation split and greedy BLEU of its first sentences."""
        training = self.params.training
        self.model.eval()
        with autocast(self.device, self.precision):
            loss = validation_loss(
                self.model, self.valid, self.valid_sentences, training.micro_batch_tokens, self.precision
            )
            asked = self.valid_sentences[: training.validation_bleu_sentences]
            bleu = greedy_bleu(self.model, self.vocabulary, self.valid, asked) if len(asked) else None
        return Validation(loss, bleu)

    def _loss(self, sentences: Indices) -> Tensor:
        batch = assemble(self.train, sentences).to(self.device)
        with autocast(self.device, self.precision):
            hidden = self.model.hidden(batch.source, batch.target_in)
        weight, smoothing = self.model.embedding.weight, self.params.training.label_smoothing
        return smoothed_cross_entropy(hidden, weight, batch.target_out, smoothing, self.precision)


def summed(terms: Iterable[list[Tensor]]) -> list[Tensor]:
    """The sum of each tensor over the terms, in their order, in the memory of the first term."""
    iterator = iter(terms)
    sums = next(iterator)
    for term in iterator:
        torch._foreach_add_(sums, term)
    return sums


def _kernels(device: torch.device) -> AbstractContextManager[None]:
    """Attention's kernels; the fused one's backward pass is several times slower on short CPU sequences."""
    plain: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return plain if device.type == "cpu" else nullcontext()


def dropout_seed(seed: int, update: int, micro_batch: int) -> int:
    """A 63-bit seed that differs for each (seed, update, micro-batch)."""
    return int(np.random.SeedSequence([seed, update, micro_batch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_finite(loss: float, update: int, groups: Update) -> None:
    """Stop a run that has diverged.

    Raises:
        DivergedError: names the update and the lines of the training split that it saw.
    """
    if not math.isfinite(loss):
        rows = sorted(np.concatenate(groups).tolist())
        lines = ", ".join(map(str, rows[:20]))
        more = ", …" if len(rows) > 20 else ""
        raise DivergedError(
            f"the loss became {loss} at update {update} (rows {lines}{more} of data/corpus/train.parquet): "
            "lower training.learning_rate_scale or raise training.warmup_updates"
        )
