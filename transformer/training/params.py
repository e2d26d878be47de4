"""The `training` section of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from transformer.section import Section


class TrainingParams(Section):
    """Optimisation, batches, validation and checkpoints."""

    seed: int = Field(ge=0)
    updates: int = Field(ge=1)
    batch_target_tokens: int = Field(ge=1)  # target tokens of one update over all devices
    length_groups: int = Field(ge=1)  # groups of like length that an update mixes
    micro_batch_tokens: int = Field(ge=1)  # padded tokens of either side that one device holds at a time
    label_smoothing: float = Field(ge=0, lt=1)
    adam_beta1: float = Field(ge=0, lt=1)
    adam_beta2: float = Field(ge=0, lt=1)
    adam_epsilon: float = Field(gt=0)
    schedule: Literal["inverse_sqrt", "linear"]  # how the rate falls after the warm-up
    warmup_updates: int = Field(ge=1)
    learning_rate_scale: float = Field(gt=0)  # factor on the paper's schedule
    precision: Literal["auto", "bf16", "fp32"]
    device: Literal["auto", "cuda", "mps", "cpu"]
    devices: int = Field(ge=1)  # processes on each machine, one a GPU
    nodes: int = Field(ge=1)  # machines
    compile: bool | None  # torch.compile, with sentences packed without padding; null: on a GPU that can
    threads: int | None = Field(ge=1)  # CPU threads; null: one a core
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
