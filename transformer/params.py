"""params.yaml as one checked object, section by section in the order of the file, with errors in the user's words.

What a value means for results, and the paper's value beside it, stand in params.yaml itself.
"""

import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from transformer.errors import ParamsError
from transformer.known_keys import known_keys
from transformer.languages import parse, same_language
from transformer.relations import check_relations
from transformer.section import LARGEST, Count, CountFromZero, Names, Section, distinct, in_words
from transformer.yaml12 import InvalidYamlError, parse_yaml

MINUTES_OF_A_YEAR = 525_600
DECODING_FILE = "decoding.json"
LARGEST_MODEL = 10**11  # weights; with their gradients and Adam's moments they fill 1.6 TB


def _known(code: str) -> str:
    parse(code)
    return code


LanguageCode = Annotated[str, AfterValidator(_known)]  # becomes part of file names, which a known code's letters are


class LanguageParams(Section):
    """The direction of translation; any spelling of a language code that `transformer.languages` knows."""

    source: LanguageCode
    target: LanguageCode

    @field_validator("source", "target", mode="before")
    @classmethod
    def _no_is_norwegian(cls, value: object) -> object:
        if value is False:
            raise ValueError('a bare no or false is no text in YAML: write "no", in quotes, for Norwegian')
        return value

    @field_validator("target")
    @classmethod
    def _not_the_source(cls, target: str, known: ValidationInfo) -> str:
        if "source" in known.data and same_language(known.data["source"], target):
            raise ValueError(f"the source, {known.data['source']!r}, is the same language; name another one")
        return target


class DownloadParams(Section):
    """Which corpora to fetch and how patiently."""

    corpora: Names  # names in data/corpora.yaml
    retries: int = Field(ge=0, le=100)  # further attempts after a failed transfer, with exponential back-off
    timeout_seconds: float = Field(gt=0, le=86_400)  # a connection that is silent for longer counts as cut


class FilterParams(Section):
    """Which pairs are removed, each filter by the name that it has in reports/corpus.json; false switches it off."""

    empty: bool  # a side without text
    identical: bool  # both sides the same: not translated
    length: Count | None  # more words than this on a side, by white space
    length_in_characters: Count | None  # the same in languages that put no spaces between words
    length_ratio: float | None = Field(ge=1)  # the longer side over the shorter, in words and also in characters
    placeholder_mismatch: bool  # placeholders, tags or URLs that differ
    # any: a number that the other side lacks; conflict: each side has one that the other lacks
    number_mismatch: Literal["any", "conflict"] | None
    wrong_script: bool  # a side mostly in letters that its language does not use
    duplicates: Literal["source", "pair"] | None  # source: all but the first pair of a source; pair: equal pairs
    held_out: float | None = Field(gt=0, le=1)  # training sources as similar as this to a held-out source
    held_out_target: float | None = Field(gt=0, le=1)  # training targets as similar as this to a held-out reference

    @field_validator("*", mode="before")
    @classmethod
    def _false_is_off(cls, value: object, info: ValidationInfo) -> object:
        is_switch = info.field_name is not None and cls.model_fields[info.field_name].annotation is bool
        if value is None and not is_switch:
            raise ValueError("false switches the filter off")
        return None if value is False and not is_switch else value

    @field_serializer("*")
    def _off_is_false(self, value: object) -> object:
        """As params.yaml and dvc.lock have it, with which lineage compares."""
        return False if value is None else value


class PreparationParams(Section):
    """Filters and splits."""

    filters: FilterParams
    valid_share: float = Field(gt=0, lt=0.5)  # of the sources of a corpus without that split
    test_share: float = Field(gt=0, lt=0.5)
    mix: float = Field(ge=0, le=1)  # share of the parent's training pairs that are replayed
    sampling_temperature: float = Field(ge=1, le=100)  # 1: each pair once an epoch; 100: all corpora alike
    batch_pairs: Count  # pairs of a chunk: what a process holds, and an interruption loses, at a time
    max_line_bytes: int = Field(ge=1024, le=1 << 30)  # of a raw file; a longer line is an error


class TokenizationParams(Section):
    """The byte-pair vocabulary that both languages share."""

    vocabulary_size: int = Field(ge=261, le=1_000_000)  # pieces, special ids and byte pieces included
    character_coverage: float = Field(ge=0.98, le=1)  # share of characters with a piece; SentencePiece's limits
    training_pairs: Count  # pairs of the training split that the vocabulary is learned on, at most
    model: str | None  # path of a SentencePiece model; null: learned, or the parent's
    new_pieces: int = Field(ge=0, le=1_000_000)  # added to a vocabulary that is given, or the parent's


class ModelParams(Section):
    """The network's shape; names as in section 3 of the paper."""

    d_model: int = Field(ge=2, le=65_536)
    d_ff: int = Field(ge=1, le=1_048_576)
    heads: int = Field(ge=1, le=1024)
    key_size: int | None = Field(default=None, ge=1, le=65_536)  # d_k; None: d_model / heads, which is always d_v
    encoder_layers: int = Field(ge=1, le=1000)
    decoder_layers: int = Field(ge=1, le=1000)
    dropout: float = Field(ge=0, lt=1)
    positions: Literal["sinusoidal", "learned"]
    norm: Literal["post", "pre"]
    max_positions: int = Field(ge=8, le=65_536)  # longest sequence in tokens, end-of-sentence included

    @property
    def d_v(self) -> int:
        """Width of a head's values."""
        return self.d_model // self.heads

    @property
    def d_k(self) -> int:
        """Width of a head's queries and keys."""
        return self.key_size or self.d_v

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model must be a multiple of 2 x heads = {2 * self.heads}, not {self.d_model}")
        per_layer = self.d_model * (2 * self.heads * (self.d_k + self.d_v) + 2 * self.d_ff)
        if (weights := (self.encoder_layers + self.decoder_layers) * per_layer) > LARGEST_MODEL:
            raise ValueError(f"d_model, d_ff and the layers make {weights:.0e} weights, more than any machine holds")
        return self


class TrainingParams(Section):
    """Optimisation, batches, validation and checkpoints."""

    seed: int = Field(ge=0, lt=2**63)
    updates: int = Field(ge=1, lt=10**8)  # checkpoints are named by eight digits
    start_from: str | None  # a model folder, an MLflow version or a git revision; null: random weights
    start_optimizer: Literal["fresh", "taken"]  # taken: Adam's moments of the parent's training
    batch_target_tokens: Count  # target tokens of one update over all devices
    length_groups: Count  # groups of like length that an update mixes
    micro_batch_tokens: Count | None  # of either side, padded, on one device; null: what fits
    label_smoothing: float = Field(ge=0, lt=1)
    adam_beta1: float = Field(ge=0, lt=1)
    adam_beta2: float = Field(ge=0, lt=1)
    adam_epsilon: float = Field(ge=1e-30, le=1)  # in float32 anything smaller is 0
    schedule: Literal["inverse_sqrt", "linear"]  # how the rate falls after the warm-up
    warmup_updates: Count
    rewarm_after: int | None = Field(ge=0, lt=10**8)  # the update after which the schedule begins anew; 0: none does
    learning_rate_scale: float = Field(gt=0, le=1e30)  # factor on the paper's schedule
    precision: Literal["auto", "bf16", "fp32"]
    compile: bool | None  # torch.compile, with sentences packed without padding; null: on a GPU that can
    log_every: Count  # updates
    validate_every: Count  # updates
    validation_bleu_sentences: CountFromZero  # sentences of the greedy BLEU; 0: none
    early_stopping_patience: Count | None  # validations without a better loss; null: never
    forgetting_limit: float | None = Field(gt=0, le=100)  # nats on the parent's validation set; null: any
    checkpoint_every_updates: Count | None
    checkpoint_every_minutes: float | None = Field(gt=0, le=MINUTES_OF_A_YEAR)
    keep_last: Count  # checkpoints kept beside the best one

    @model_validator(mode="after")
    def _a_group_holds_a_token(self) -> Self:
        if self.length_groups > self.batch_target_tokens:
            raise ValueError(f"length_groups must not exceed batch_target_tokens = {self.batch_target_tokens}")
        return self


class AveragingParams(Section):
    """Which checkpoints become the model."""

    rule: Literal["last", "best", "minutes"]  # by update, by validation loss, or by time apart (the paper)
    count: Count  # at most
    at_least: Count  # with fewer there is no model
    minutes_apart: float = Field(gt=0, le=MINUTES_OF_A_YEAR)  # for the rule `minutes`
    min_updates_apart: Count  # closer checkpoints are near-duplicates: the later one counts


class DecodingParams(Section):
    """Beam search as in section 6.1 of the paper."""

    beam: int = Field(ge=1, le=64)
    alpha: float = Field(ge=0)  # exponent of the length penalty ((5 + length) / 6) ** alpha
    max_extra_length: CountFromZero  # longest hypothesis = source tokens + this
    batch_tokens: int = Field(ge=1)  # padded source tokens translated at a time
    # Params files and model folders from before these two keys mean what `auto` means.
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on a GPU that multiplies in it, fp32 on a CPU
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"  # of evaluation; auto: compute.device; not a model's

    @field_validator("alpha", "max_extra_length", "batch_tokens")
    @classmethod
    def _is_no_mistake(cls, value: float, field: ValidationInfo) -> float:
        if value > (most := 10 if field.field_name == "alpha" else LARGEST):
            raise ValueError(f"more than {most} is no search")
        return value


def read_decoding(folder: Path) -> DecodingParams:
    """The search settings with which a model folder, or the one that was exported, was scored.

    Raises:
        DataError: they are missing or malformed.
    """
    return DecodingParams.read(folder / DECODING_FILE)


class EvaluationParams(Section):
    """What is scored and how finely it is broken down."""

    test_sets: Names  # origins in data/corpus/test.parquet; the first is the headline
    # of sacreBLEU; null: the one for the target language
    bleu_tokenizer: (
        Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K", "char", "none"]
        | None
    )
    comet_checkpoint: str | None  # a local file of a COMET model; null: no COMET
    comet_python: str | None  # a Python that has unbabel-comet; null: this one
    bootstrap_samples: int = Field(ge=100, le=1_000_000)  # of the 95 % interval
    length_buckets: list[Count] = Field(min_length=1)  # upper bounds of source lengths in words, ascending
    attention_sentences: int = Field(ge=0, le=1000)  # of the headline test set, whose attention is drawn

    @field_validator("length_buckets")
    @classmethod
    def _rise(cls, bounds: list[int]) -> list[int]:
        if any(later <= earlier for earlier, later in pairwise(bounds)):
            raise ValueError(f"the bounds must rise; did you mean {sorted(set(bounds))}?")
        return bounds


ExportFormat = Literal["ctranslate2", "huggingface", "onnx"]
Quantization = Literal["float32", "bfloat16", "int8"]  # of the weights for ctranslate2


class ExportParams(Section):
    """In which other forms the averaged model is kept."""

    formats: Annotated[list[ExportFormat], AfterValidator(distinct)]
    quantization: Quantization


class ComputeParams(Section):
    """Where and how fast to compute; no stage of dvc.yaml depends on it, so changing it runs nothing again."""

    device: Literal["auto", "cuda", "mps", "cpu"]  # of training and, unless decoding.device names one, of evaluation
    devices: int = Field(ge=1, le=1024)  # processes of a training on each machine, one a GPU
    nodes: int = Field(ge=1, le=65_536)  # machines that share a training
    threads: int | None = Field(ge=1, le=1024)  # CPU threads of training; null: one a core
    executor: Literal["local", "dask"]  # of the chunks of prepare and tokenize
    scheduler: str | None  # address of the Dask scheduler

    @field_validator("scheduler")
    @classmethod
    def _is_an_address(cls, scheduler: str | None) -> str | None:
        if scheduler is not None and not re.fullmatch(r"(\w+://)?([\w.-]+|\[[\da-fA-F:]+\])(:\d+)?", scheduler):
            raise ValueError("an address is expected, for instance tcp://scheduler:8786")
        return scheduler

    @model_validator(mode="after")
    def _dask_has_a_scheduler(self) -> Self:
        if self.executor == "dask" and self.scheduler is None:
            raise ValueError("executor: dask needs the scheduler's address, for instance tcp://scheduler:8786")
        return self


class PromotionParams(Section):
    """What a model needs to become champion; no stage of dvc.yaml depends on it."""

    require_signatures: bool  # each record behind it is signed by who may, docs/lineage.md


class Params(Section):
    """All of params.yaml."""

    languages: LanguageParams
    download: DownloadParams
    preparation: PreparationParams
    tokenization: TokenizationParams
    model: ModelParams
    training: TrainingParams
    averaging: AveragingParams
    decoding: DecodingParams
    evaluation: EvaluationParams
    export: ExportParams
    compute: ComputeParams
    promotion: PromotionParams

    @property
    def decoding_device(self) -> Literal["auto", "cuda", "mps", "cpu"]:
        """Where evaluation translates."""
        return self.compute.device if self.decoding.device == "auto" else self.decoding.device

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        check_relations(self)
        return self


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        ParamsError: one line that names the file, the key, the value and what is allowed.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: copy one of presets/ to {path.name}") from None
    return parse_params(text, str(path))


def parse_params(text: str | bytes, origin: str) -> Params:
    """Check the text of a params file; `origin` names it in errors, as in `load_params`."""
    try:
        return params_from(parse_yaml(text, origin), origin)
    except InvalidYamlError as error:
        raise ParamsError(str(error)) from None


def params_from(content: Any, origin: str) -> Params:
    """Check the content of a params file; `origin` names it in errors, as in `load_params`."""
    if not isinstance(content, dict):
        raise ParamsError(f"{origin} must hold the sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{origin}: {in_words(error, partial(known_keys, Params))}") from None
