"""params.yaml as one checked object, section by section in the order of the file, with errors in the user's words.

What a value means for results, and the paper's value beside it, stand in params.yaml itself.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from transformer.errors import ParamsError
from transformer.languages import parse, same_language
from transformer.section import Location, Section, in_words
from transformer.yaml12 import InvalidYamlError, parse_yaml


class LanguageParams(Section):
    """The direction of translation; any spelling of a language code that `transformer.languages` knows."""

    source: str
    target: str

    @field_validator("source", "target", mode="before")
    @classmethod
    def _no_is_norwegian(cls, value: object) -> object:
        if value is False:
            raise ValueError('a bare no or false is no text in YAML: write "no", in quotes, for Norwegian')
        return value

    @field_validator("source", "target")
    @classmethod
    def _names_a_language(cls, value: str) -> str:
        parse(value)
        return value

    @model_validator(mode="after")
    def _two_languages(self) -> Self:
        if same_language(self.source, self.target):
            raise ValueError(f"source {self.source!r} and target {self.target!r} are the same language")
        return self


class DownloadParams(Section):
    """Which corpora to fetch and how patiently."""

    corpora: list[str] = Field(min_length=1)  # names in data/corpora.yaml
    retries: int = Field(ge=0, le=100)  # further attempts after a failed transfer, with exponential back-off
    timeout_seconds: float = Field(gt=0)  # a connection that is silent for longer counts as cut


class FilterParams(Section):
    """Which pairs are removed, each filter by the name that it has in reports/corpus.json; false switches it off."""

    empty: bool  # a side without text
    identical: bool  # both sides the same: not translated
    length: int | None = Field(ge=1)  # more words than this on a side, by white space
    length_in_characters: int | None = Field(ge=1)  # the same in languages that put no spaces between words
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
        return None if value is False and not is_switch else value


class PreparationParams(Section):
    """Filters and splits."""

    filters: FilterParams
    valid_share: float = Field(gt=0, lt=0.5)  # of the sources of a corpus without that split
    test_share: float = Field(gt=0, lt=0.5)
    batch_pairs: int = Field(ge=1)  # pairs of a chunk: what a process holds, and an interruption loses, at a time
    max_line_bytes: int = Field(
        default=1 << 20, ge=1024, le=1 << 30
    )  # of a raw file's line; a longer one is an error


class TokenizationParams(Section):
    """The byte-pair vocabulary that both languages share."""

    vocabulary_size: int = Field(ge=261)  # pieces, special ids and byte pieces included
    character_coverage: float = Field(ge=0.98, le=1)  # share of characters with a piece; SentencePiece's limits
    training_pairs: int = Field(ge=1)  # pairs of the training split that the vocabulary is learned on, at most


class ModelParams(Section):
    """The network's shape; names as in section 3 of the paper."""

    d_model: int = Field(ge=2)
    d_ff: int = Field(ge=1)
    heads: int = Field(ge=1)
    key_size: int | None = Field(default=None, ge=1)  # d_k; None: d_model / heads, which is always d_v
    encoder_layers: int = Field(ge=1)
    decoder_layers: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    positions: Literal["sinusoidal", "learned"]
    norm: Literal["post", "pre"]
    max_positions: int = Field(ge=8)  # longest sequence in tokens, end-of-sentence included

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
        return self


class TrainingParams(Section):
    """Optimisation, batches, validation and checkpoints."""

    seed: int = Field(ge=0)
    updates: int = Field(ge=1)
    batch_target_tokens: int = Field(ge=1)  # target tokens of one update over all devices
    length_groups: int = Field(ge=1)  # groups of like length that an update mixes
    micro_batch_tokens: int | None = Field(ge=1)  # of either side, padded, on one device; null: what fits
    label_smoothing: float = Field(ge=0, lt=1)
    adam_beta1: float = Field(ge=0, lt=1)
    adam_beta2: float = Field(ge=0, lt=1)
    adam_epsilon: float = Field(gt=0)
    schedule: Literal["inverse_sqrt", "linear"]  # how the rate falls after the warm-up
    warmup_updates: int = Field(ge=1)
    learning_rate_scale: float = Field(gt=0)  # factor on the paper's schedule
    precision: Literal["auto", "bf16", "fp32"]
    compile: bool | None  # torch.compile, with sentences packed without padding; null: on a GPU that can
    log_every: int = Field(ge=1)  # updates
    validate_every: int = Field(ge=1)  # updates
    validation_bleu_sentences: int = Field(ge=0)  # sentences of the greedy BLEU; 0: none
    early_stopping_patience: int | None = Field(ge=1)  # validations without a better loss; null: never
    checkpoint_every_updates: int | None = Field(ge=1)
    checkpoint_every_minutes: float | None = Field(gt=0)
    keep_last: int = Field(ge=1)  # checkpoints kept beside the best one

    @model_validator(mode="after")
    def _a_group_holds_a_token(self) -> Self:
        if self.length_groups > self.batch_target_tokens:
            raise ValueError(f"length_groups must not exceed batch_target_tokens = {self.batch_target_tokens}")
        return self


class AveragingParams(Section):
    """Which checkpoints become the model."""

    rule: Literal["last", "best", "minutes"]  # by update, by validation loss, or by time apart (the paper)
    count: int = Field(ge=1)
    minutes_apart: float = Field(gt=0)  # for the rule `minutes`
    min_updates_apart: int = Field(ge=1)  # closer checkpoints are near-duplicates and are refused


class DecodingParams(Section):
    """Beam search as in section 6.1 of the paper."""

    beam: int = Field(ge=1, le=64)
    alpha: float = Field(ge=0)  # exponent of the length penalty ((5 + length) / 6) ** alpha
    max_extra_length: int = Field(ge=0)  # longest hypothesis = source tokens + this
    batch_tokens: int = Field(ge=1)  # padded source tokens translated at a time


class EvaluationParams(Section):
    """What is scored and how finely it is broken down."""

    test_sets: list[str] = Field(min_length=1)  # origins in data/corpus/test.parquet; the first is the headline
    # of sacreBLEU; null: the one for the target language
    bleu_tokenizer: (
        Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K", "char", "none"]
        | None
    )
    comet_checkpoint: str | None  # a local file of a COMET model; null: no COMET
    comet_python: str | None  # a Python that has unbabel-comet; null: this one
    bootstrap_samples: int = Field(ge=100)  # of the 95 % interval
    length_buckets: list[int] = Field(min_length=1)  # upper bounds of source lengths in words, ascending
    attention_sentences: int = Field(ge=0)  # of the headline test set, whose attention is drawn


class ComputeParams(Section):
    """Where and how fast to compute; no stage of dvc.yaml depends on it, so changing it runs nothing again."""

    device: Literal["auto", "cuda", "mps", "cpu"]  # of training and evaluation
    devices: int = Field(ge=1)  # processes of a training on each machine, one a GPU
    nodes: int = Field(ge=1)  # machines that share a training
    threads: int | None = Field(ge=1)  # CPU threads of training; null: one a core
    executor: Literal["local", "dask"]  # of the chunks of prepare and tokenize
    scheduler: str | None  # address of the Dask scheduler

    @model_validator(mode="after")
    def _dask_has_a_scheduler(self) -> Self:
        if self.executor == "dask" and self.scheduler is None:
            raise ValueError("executor: dask needs the scheduler's address, for instance tcp://scheduler:8786")
        return self


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
    compute: ComputeParams


MOVED = {
    f"{section}.{key}": f"compute.{key}"
    for section, keys in {
        "training": ("device", "devices", "nodes", "threads"),
        "preparation": ("executor", "scheduler"),
    }.items()
    for key in keys
} | {
    "preparation.max_words": "preparation.filters.length",
    "preparation.max_length_ratio": "preparation.filters.length_ratio",
    "preparation.near_duplicate_jaccard": "preparation.filters.held_out",
}


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
        content = parse_yaml(text, origin)
    except InvalidYamlError as error:
        raise ParamsError(str(error)) from None
    return params_from(content, origin)


def params_from(content: Any, origin: str) -> Params:
    """Check the content of a params file; `origin` names it in errors, as in `load_params`."""
    if not isinstance(content, dict):
        raise ParamsError(f"{origin} must hold the sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{origin}: {in_words(error, _known_keys)}") from None


def _known_keys(location: Location) -> str:
    """What to write instead of the unknown key at `location`."""
    key = ".".join(map(str, location))
    if key in MOVED:
        return f"it has moved, write {MOVED[key]} instead"
    section: type[Section] = Params
    for step in location[:-1]:
        inner = section.model_fields[str(step)].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, Section)
        section = inner
    return f"allowed here: {', '.join(section.model_fields)}"
