"""What every section of params.yaml has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A params section: immutable, unknown keys forbidden, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
