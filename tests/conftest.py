"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent

# One thread makes sums the same on every machine and lets the suite run beside other work.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Recorded numbers of the reference implementation (tests/golden)."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and recorded features beside the project; skips where it is absent."""
    folder = HERE.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with real recordings is not here")
    return folder
