"""One training run: the network, the optimizer, the data, and the update (paper, section 5)."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transformer.bleu import STANDARD
from transformer.errors import DeviceMemoryError, DivergedError, ParamsError
from transformer.model.device import autocast, select_device, select_precision
from transformer.model.layers import seed_dropout
from transformer.model.packing import has_flash_kernel
from transformer.model.transformer import Transformer
from transformer.params import ComputeParams, ModelParams, TrainingParams
from transformer.tokens.store import OLD_VALID, TokenSide, TokenSplit, ids_file
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.training.batching import (
    PACKED_STEP,
    Batch,
    Indices,
    Update,
    assemble,
    check_longest,
    lay_out,
    micro_batches,
    pack,
    packed_batches,
    plan_epoch,
    usable_sentences,
)
from transformer.training.gradients import Copies, Weights
from transformer.training.memory import micro_batch_tokens
from transformer.training.objective import Network
from transformer.training.ranks import Alone, Ranks
from transformer.training.resume import TrainingState
from transformer.training.schedule import learning_rate
from transformer.training.throughput import training_flops
from transformer.training.validation import Validation, greedy_bleu, validation_loss

CUBLAS_WORKSPACES = (":4096:8", ":16:8")  # with which torch's deterministic mode allows products on a GPU


@dataclass(frozen=True)
class Work:
    """An update cut into micro-batches; those that this process computes are assembled."""

    groups: Update
    tokens: int  # target tokens of the whole update
    flops: int  # that the whole update needs, forward and backward
    batches: list[tuple[int, Batch]]  # with their numbers among the update's micro-batches


@dataclass
class Run:
    """What an update needs; all of it follows from the params and the token folder."""

    shape: ModelParams
    settings: TrainingParams
    device: torch.device
    precision: torch.dtype
    packed: bool  # sentences packed without padding, and the network compiled
    grid: bool  # else: sentences padded, but in a single row
    micro_batch_tokens: int  # as asked, or what the device holds
    vocabulary: Vocabulary
    train: TokenSplit
    valid: TokenSplit
    train_sentences: Indices
    valid_sentences: Indices
    model: Transformer
    network: Network
    weights: Weights
    optimizer: torch.optim.Optimizer
    ranks: Alone
    bleu_tokenizer: str = STANDARD  # of the validation BLEU
    old_valid: TokenSplit | None = None  # of the corpus that the parent was trained on
    steps_before: int = 0  # of the optimizer, where its moments come from a parent

    @classmethod
    def prepare(
        cls,
        shape: ModelParams,
        settings: TrainingParams,
        compute: ComputeParams,
        tokens: Path,
        ranks: Alone | None = None,
    ) -> "Run":
        """Open the data and initialise the network from the seed.

        Raises:
            DataError: a file is missing or damaged.
        """
        vocabulary = Vocabulary.load(tokens / VOCABULARY_FILE)
        train, valid = (TokenSplit.open(tokens, split) for split in ("train", "valid"))
        for split in (train, valid):
            split.check_ids(tokens, vocabulary.size)
        run = cls.start(shape, settings, compute, vocabulary, train, valid, ranks)
        if ids_file(tokens, OLD_VALID, "source").exists():
            run.old_valid = TokenSplit.open(tokens, OLD_VALID)
            run.old_valid.check_ids(tokens, vocabulary.size)
        return run

    @classmethod
    def start(
        cls,
        shape: ModelParams,
        settings: TrainingParams,
        compute: ComputeParams,
        vocabulary: Vocabulary,
        train: TokenSplit,
        valid: TokenSplit,
        ranks: Alone | None = None,
    ) -> "Run":
        """Initialise the network from the seed.

        Raises:
            ParamsError: the device cannot do what `training.compile` asks for, or a sentence fits no micro-batch.
            DeviceMemoryError: the model does not fit.
        """
        ranks = ranks or Alone()
        device = select_device(compute.device)
        precision = select_precision(settings.precision, device)
        packed = _packs(settings.compile, shape, device, precision)
        ranks.use_threads(device, compute.threads, 1 if packed else settings.length_groups)
        _set_numerics(device)
        torch.manual_seed(settings.seed)
        model = Transformer(shape, vocabulary.size).to(device)
        held = micro_batch_tokens(
            settings.micro_batch_tokens, settings.batch_target_tokens, shape, vocabulary.size, device, precision
        )
        usable = [usable_sentences(split, shape.max_positions) for split in (train, valid)]
        check_longest(train, usable[0], "train", held - 2 * PACKED_STEP * packed)
        check_longest(valid, usable[1], "valid", held)
        network, weights = _computed(model, settings.label_smoothing, precision, packed, ranks)
        betas = (settings.adam_beta1, settings.adam_beta2)
        return cls(
            shape=shape,
            settings=settings,
            device=device,
            precision=precision,
            packed=packed,
            grid=device.type == "cpu",
            micro_batch_tokens=held,
            vocabulary=vocabulary,
            train=train,
            valid=valid,
            train_sentences=usable[0],
            valid_sentences=usable[1],
            model=model,
            network=network,
            weights=weights,
            optimizer=torch.optim.Adam(
                model.parameters(), lr=0.0, betas=betas, eps=settings.adam_epsilon, fused=device.type != "mps"
            ),
            ranks=ranks,
        )

    def begin(self, state: TrainingState) -> TrainingState:
        """The state from which all ranks continue: that of the first one."""
        batch = self._batch(self.train_sentences[:1])
        self.model.train()
        return self.ranks.begin(state, self.model, self.optimizer, lambda: self.network.loss(batch.to(self.device)))

    def learning_rate(self, update: int) -> float:
        """The learning rate of this update, counted from 1."""
        return learning_rate(update, self.shape.d_model, self.settings)

    def plan(self, epoch: int) -> list[Update]:
        """The updates of this epoch in their order."""
        return plan_epoch(self.train, self.train_sentences, self.settings, epoch)

    def work(self, groups: Update) -> Work:
        """The update of these groups, ready for the device; background threads call this.

        Raises:
            ParamsError: a sentence is longer than a micro-batch.
        """
        pieces = self._pieces(groups)
        sentences = np.concatenate(groups)
        sources, targets = (side.offsets[sentences + 1] - side.offsets[sentences] for side in self._sides())
        flops = training_flops(self.shape, self.vocabulary.size, sources, targets)
        batches = [(index, self._batch(pieces[index])) for index in self._mine(pieces)]
        return Work(groups, int(targets.sum()), flops, batches)

    def update(self, update: int, work: Work) -> Tensor:
        """One step of the optimizer; returns the summed loss, a scalar on the device, without waiting for it.

        The gradient is that of the mean loss over the update's target tokens, however many micro-batches share
        them. Dropout's randomness is a function of (seed, update, micro-batch), so that resume needs no generator
        state.

        Raises:
            DeviceMemoryError: a micro-batch does not fit.
            ParamsError: torch.compile does not work on this machine.
        """
        self.model.train()

        def loss(place: int) -> Tensor:
            index, batch = work.batches[place]
            seed_dropout(dropout_seed(self.settings.seed, update, index), self.device)
            return self.network.loss(batch.to(self.device))

        try:
            total = self.ranks.backward(self.weights, loss, len(work.batches), work.tokens)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(update)
            self.ranks.step(self.optimizer)
        except torch.OutOfMemoryError:
            raise self._too_small_a_memory() from None
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise ParamsError(
                f"torch.compile failed, set training.compile: false to train without it: {reason}"
            ) from error
        self.optimizer.zero_grad()
        return total

    def validate(self) -> Validation:
        """Loss over the validation split and greedy BLEU of its first sentences.

        Raises:
            DeviceMemoryError: a batch does not fit.
        """
        self.model.eval()
        try:
            with autocast(self.device, self.precision):
                loss = validation_loss(
                    self.model, self.valid, self.valid_sentences, self.micro_batch_tokens, self.precision
                )
                asked = self.valid_sentences[: self.settings.validation_bleu_sentences]
                bleu = None
                if len(asked):
                    bleu = greedy_bleu(self.model, self.vocabulary, self.valid, asked, self.bleu_tokenizer)
            old_loss = self.loss_on_old() if self.old_valid else None
        except torch.OutOfMemoryError:
            raise self._too_small_a_memory() from None
        return Validation(loss, bleu, old_loss)

    def loss_on_old(self) -> float:
        """Loss over the validation split of the parent's corpus."""
        assert self.old_valid is not None
        usable = usable_sentences(self.old_valid, self.shape.max_positions)
        self.model.eval()
        with autocast(self.device, self.precision):
            return validation_loss(self.model, self.old_valid, usable, self.micro_batch_tokens, self.precision)

    def _too_small_a_memory(self) -> DeviceMemoryError:
        tokens = self.micro_batch_tokens
        if self.settings.micro_batch_tokens is None:
            limit, remedy = f"training.micro_batch_tokens: null, here {tokens},", f"state a number below {tokens}"
        else:
            limit, remedy = f"training.micro_batch_tokens = {tokens}", "lower it"
        return DeviceMemoryError(f"{limit} does not fit into the memory of {self.device}: {remedy}")

    def _pieces(self, groups: Update) -> list[Indices]:
        limit = self.micro_batch_tokens
        if self.packed:
            return packed_batches(self.train, groups, limit, self.ranks.world)
        return [piece for group in groups for piece in micro_batches(self.train, group, limit)]

    def _mine(self, pieces: list[Indices]) -> Sequence[int]:
        """The numbers of the micro-batches that this process computes."""
        return self.ranks.mine([self._cost(piece) for piece in pieces])

    def _cost(self, sentences: Indices) -> int:
        """How many ids both sides have, with the padding that they will get."""
        lengths = [side.offsets[sentences + 1] - side.offsets[sentences] for side in self._sides()]
        return sum(int(one.sum() if self.packed else len(one) * one.max()) for one in lengths)

    def _batch(self, sentences: Indices) -> Batch:
        if self.packed:
            batch = pack(self.train, sentences, self.shape.max_positions)
        else:
            batch = (lay_out if self.grid else assemble)(self.train, sentences)
        if self.device.type != "cuda":
            return batch
        with torch.cuda.device(self.device):  # without it, a new thread would pin memory through the first GPU
            return batch.pinned()

    def _sides(self) -> tuple[TokenSide, TokenSide]:
        return self.train.source, self.train.target


def _packs(wanted: bool | None, shape: ModelParams, device: torch.device, precision: torch.dtype) -> bool:
    """Whether to pack and compile: where flash attention can keep sentences apart, unless params say otherwise."""
    kernel = has_flash_kernel(device, precision, shape)
    if wanted and device.type != "cpu" and not kernel:
        raise ParamsError(
            "training.compile: true needs a GPU of compute capability 8.0 or higher, bf16, and heads of d_k = d_v, a "
            "multiple of 8; leave it at null"
        )
    return kernel if wanted is None else wanted


def _computed(
    model: Transformer, smoothing: float, precision: torch.dtype, packed: bool, ranks: Alone
) -> tuple[Network, Weights]:
    """What an update computes with: on a CPU, in a single process, a copy of the model."""
    if model.device.type != "cpu" or packed or isinstance(ranks, Ranks):
        return Network(model, smoothing, precision, compiled=packed), Weights(model)
    copies = Copies(model, precision)
    return Network(copies.network, smoothing, precision, compiled=False, projection=copies.projection), copies


def _set_numerics(device: torch.device) -> None:
    """The same bits in every run; on a GPU, TF32 where float32 remains.

    Raises:
        ParamsError: the environment forbids it.
    """
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")  # set in transformer/__init__.py, unless it was set before
    if device.type == "cuda" and workspace not in CUBLAS_WORKSPACES:
        raise ParamsError(
            f"the environment variable CUBLAS_WORKSPACE_CONFIG is {workspace!r}, with which cuBLAS adds up in no "
            f"fixed order: unset it, or set it to {' or '.join(CUBLAS_WORKSPACES)}"
        )
    torch.use_deterministic_algorithms(True)
    # Not needed: nothing here reads memory that it has not written. The setting is missing in torch's stubs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


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
