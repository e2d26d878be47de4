"""One training run: the network, the optimizer, the data, and the update that moves them (paper, section 5)."""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from transformer.data.tokenize.store import TokenSide, TokenSplit
from transformer.data.tokenize.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.errors import DeviceMemoryError, DivergedError, ParamsError
from transformer.model.device import autocast, select_device, select_precision
from transformer.model.dropout import seed_dropout
from transformer.model.packing import has_flash_kernel
from transformer.model.transformer import Transformer
from transformer.params import Params
from transformer.training.batching import (
    Batch,
    Indices,
    Update,
    assemble,
    micro_batches,
    pack,
    packed_batches,
    plan_epoch,
    usable_sentences,
)
from transformer.training.cores import Cores
from transformer.training.flops import training_flops
from transformer.training.network import Network
from transformer.training.ranks import ALONE, Alone, Ranks
from transformer.training.resume import Progress
from transformer.training.schedule import learning_rate
from transformer.training.validation import Validation, greedy_bleu, validation_loss


@dataclass(frozen=True)
class Work:
    """An update cut into micro-batches, those that this process computes assembled."""

    groups: Update
    tokens: int  # target tokens of the whole update
    flops: int  # that the whole update needs, forward and backward
    batches: list[tuple[int, Batch]]  # with their numbers among the update's micro-batches


@dataclass
class Run:
    """What an update needs; all of it follows from params and the token folder."""

    params: Params
    device: torch.device
    precision: torch.dtype
    packed: bool  # sentences packed without padding, and the network compiled
    vocabulary: Vocabulary
    train: TokenSplit
    valid: TokenSplit
    train_sentences: Indices
    valid_sentences: Indices
    model: Transformer
    network: Network
    optimizer: torch.optim.Optimizer
    cores: Cores
    ranks: Alone

    @classmethod
    def prepare(cls, params: Params, tokens: Path, ranks: Alone = ALONE) -> "Run":
        """Open the data and initialise the network from the seed."""
        vocabulary = Vocabulary.load(tokens / VOCABULARY_FILE)
        train, valid = (TokenSplit.open(tokens, split) for split in ("train", "valid"))
        return cls.start(params, vocabulary, train, valid, ranks)

    @classmethod
    def start(
        cls, params: Params, vocabulary: Vocabulary, train: TokenSplit, valid: TokenSplit, ranks: Alone = ALONE
    ) -> "Run":
        """Initialise the network from the seed.

        Raises:
            ParamsError: `training.compile` asks for what the device has not.
        """
        training = params.training
        device = select_device(training.device)
        precision = select_precision(training.precision, device)
        packed = _packs(params, device, precision)
        threads = max(1, (training.threads or torch.get_num_threads()) // ranks.on_this_machine)
        cores = Cores(device, threads, 1 if packed or ranks.world > 1 else training.length_groups)
        _set_numerics(device)
        torch.manual_seed(training.seed)
        model = Transformer(params.model, vocabulary.size).to(device)
        betas = (training.adam_beta1, training.adam_beta2)
        return cls(
            params=params,
            device=device,
            precision=precision,
            packed=packed,
            vocabulary=vocabulary,
            train=train,
            valid=valid,
            train_sentences=usable_sentences(train, params.model.max_positions),
            valid_sentences=usable_sentences(valid, params.model.max_positions),
            model=model,
            network=Network(model, training.label_smoothing, precision, compiled=packed),
            optimizer=torch.optim.Adam(
                model.parameters(), lr=0.0, betas=betas, eps=training.adam_epsilon, fused=device.type != "mps"
            ),
            cores=cores,
            ranks=ranks,
        )

    def begin(self, progress: Progress) -> Progress:
        """Where training goes on, on all ranks: where the first one stands."""
        batch = self._batch(self.train_sentences[:1])
        self.model.train()
        with _kernels(self.device):
            return self.ranks.begin(
                progress, self.model, self.optimizer, lambda: self.network.loss(batch.to(self.device))
            )

    def learning_rate(self, update: int) -> float:
        """The schedule at this update, counted from 1."""
        return learning_rate(update, self.params.model.d_model, self.params.training)

    def plan(self, epoch: int) -> list[Update]:
        """The updates of this epoch in their order."""
        return plan_epoch(self.train, self.train_sentences, self.params.training, epoch)

    def work(self, groups: Update) -> Work:
        """The update of these groups, ready for the device; background threads call this.

        Raises:
            ParamsError: a sentence is longer than a micro-batch.
        """
        pieces = self._pieces(groups)
        sentences = np.concatenate(groups)
        sources, targets = (side.offsets[sentences + 1] - side.offsets[sentences] for side in self._sides())
        flops = training_flops(self.params.model, self.vocabulary.size, sources, targets)
        batches = [(index, self._batch(pieces[index])) for index in self._mine(pieces)]
        return Work(groups, int(targets.sum()), flops, batches)

    def update(self, update: int, work: Work) -> Tensor:
        """One step of the optimizer; returns the summed loss, a scalar on the device that nothing has waited for.

        The gradient is that of the mean loss over the update's target tokens, however many micro-batches share
        them. Dropout's randomness is a function of (seed, update, micro-batch), so that resume needs no generator
        state.

        Raises:
            DeviceMemoryError: a micro-batch does not fit.
            ParamsError: torch.compile does not work on this machine.
        """
        training = self.params.training
        self.model.train()
        parameters = list(self.model.parameters())

        def loss_of(place: int) -> Tensor:
            index, batch = work.batches[place]
            seed_dropout(dropout_seed(training.seed, update, index), self.device)
            return self.network.loss(batch.to(self.device))

        def gradients(place: int) -> list[Tensor]:
            loss = loss_of(place)
            return [loss.detach(), *torch.autograd.grad(loss / work.tokens, parameters)]

        try:
            with _kernels(self.device):
                if isinstance(self.ranks, Ranks):
                    total = self.ranks.backward(loss_of, len(work.batches), work.tokens)
                else:
                    total, *sums = summed(self.cores.map(gradients, len(work.batches)))
                    for parameter, gradient in zip(parameters, sums, strict=True):
                        parameter.grad = gradient
        except torch.OutOfMemoryError:
            limit = f"training.micro_batch_tokens = {training.micro_batch_tokens}"
            raise DeviceMemoryError(f"{limit} does not fit into the memory of {self.device}: lower it") from None
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise ParamsError(f"torch.compile failed, training.compile: false does without: {reason}") from error
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(update)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

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

    def _pieces(self, groups: Update) -> list[Indices]:
        training = self.params.training
        limit = training.micro_batch_tokens
        if self.packed:
            return packed_batches(self.train, groups, limit, training.devices * training.nodes)
        return [piece for group in groups for piece in micro_batches(self.train, group, limit)]

    def _mine(self, pieces: list[Indices]) -> Sequence[int]:
        """The numbers of the micro-batches that this process computes."""
        return self.ranks.mine([self._cost(piece) for piece in pieces])

    def _cost(self, sentences: Indices) -> int:
        """Ids of both sides, with the padding that they will get."""
        lengths = [side.offsets[sentences + 1] - side.offsets[sentences] for side in self._sides()]
        return sum(int(one.sum() if self.packed else len(one) * one.max()) for one in lengths)

    def _batch(self, sentences: Indices) -> Batch:
        if self.packed:
            batch = pack(self.train, sentences, self.params.model.max_positions)
        else:
            batch = assemble(self.train, sentences)
        if self.device.type != "cuda":
            return batch
        with torch.cuda.device(self.device):  # a thread of its own would pin through the first GPU
            return batch.pinned()

    def _sides(self) -> tuple[TokenSide, TokenSide]:
        return self.train.source, self.train.target


def _packs(params: Params, device: torch.device, precision: torch.dtype) -> bool:
    """Whether to pack and compile: where flash attention can keep sentences apart, unless params say otherwise."""
    wanted, kernel = params.training.compile, has_flash_kernel(device, precision, params.model)
    if wanted and device.type != "cpu" and not kernel:
        raise ParamsError(
            "training.compile: true needs a GPU of compute capability 8.0 or higher, bf16, and heads of d_k = d_v, a "
            "multiple of 8; leave it at null"
        )
    return kernel if wanted is None else wanted


def _set_numerics(device: torch.device) -> None:
    """The same bits in every run; on a GPU, TF32 where float32 remains."""
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory it has not written. torch's stubs do not know the setting.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


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
