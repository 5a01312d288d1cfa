"""One tiny GPT-2 folder and subject for all tests here, and one thread so that figures do not depend on the machine."""

from pathlib import Path

import pytest
import torch

from autointerp.subject.model import Subject, load_model
from tests.unit.subject.tiny import write_gpt2

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only; a test that damages it copies it first."""
    return write_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def subject(gpt2_folder: Path) -> Subject:
    return load_model(gpt2_folder, device="cpu")
