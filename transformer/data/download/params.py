"""The `download` section of params.yaml."""

from pydantic import Field

from transformer.section import Section


class DownloadParams(Section):
    """Which corpora to fetch and how patiently."""

    corpora: list[str] = Field(min_length=1)  # names in data/corpora.yaml
    retries: int = Field(ge=0, le=100)  # further attempts after a failed transfer, with exponential back-off
    timeout_seconds: float = Field(gt=0)  # a connection that is silent for longer counts as cut
