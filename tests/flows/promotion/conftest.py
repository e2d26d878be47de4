"""What the tests of promotion share."""

from pathlib import Path

import pytest
from retrainings import Retrainings


@pytest.fixture
def retrainings(tmp_path: Path, empty_store: Path) -> Retrainings:
    """Retrainings that leave candidates in a real registry."""
    return Retrainings(tmp_path, empty_store)
