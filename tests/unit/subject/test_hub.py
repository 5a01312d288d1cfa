"""Dictionaries by name: a repository path through the hub's own client against a local server, and registry ids."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autointerp.errors import UsageError
from autointerp.subject import hub
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.hub import is_registry_id, is_repository_path
from tests.unit.subject.hub_server import Hub, serve_repository
from tests.unit.subject.test_agreement import FIXTURES

HAS_SAELENS = importlib.util.find_spec("sae_lens") is not None
SCRIPT = """
import sys
from autointerp.errors import UsageError
from autointerp.subject.dictionaries import load_dictionary
for name in sys.argv[1:]:
    try:
        dictionary = load_dictionary(name)
        print("OK", dictionary.hook_point, dictionary.d_in, dictionary.d_sae, dictionary.kind)
    except UsageError as error:
        print("REFUSED", error)
"""


def run(hub_server: Hub, home: Path, *names: str, offline: bool = False) -> list[str]:
    """In a process of its own: the hub's client reads its endpoint and cache once, on import."""
    environment = dict(os.environ) | {
        "HF_ENDPOINT": hub_server.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several dictionaries in one repository, as projects publish them."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("topk", "gated"):
        shutil.copytree(FIXTURES / "saelens" / name / "checkpoint", folder / "saes" / name)
    shutil.copytree(FIXTURES / "llama-scope" / "bf16" / "checkpoint", folder / "llama" / "L1R")
    shutil.copytree(FIXTURES / "neel-1l" / "named" / "checkpoint", folder, dirs_exist_ok=True)
    (folder / "README.md").write_text("many dictionaries")
    return folder


def test_repository_paths(repository: Path, tmp_path: Path) -> None:
    names = ["lab/dictionaries/saes/topk", "hf://lab/dictionaries/saes/gated/", "lab/dictionaries/25.pt"]
    names += ["lab/dictionaries/llama/L1R"]
    with serve_repository(repository, "lab/dictionaries") as server:
        lines = run(server, tmp_path, *names)
        assert [line.split()[0] for line in lines] == ["OK"] * 4
        assert lines[0] == "OK blocks.1.hook_resid_post 16 64 topk k=5"
        assert not [path for path in server.asked if path.endswith("README.md")], "only the checkpoint is fetched"


def test_what_the_hub_does_not_have(repository: Path, tmp_path: Path) -> None:
    names = ["lab/none/saes/topk", "lab/dictionaries/saes/none", "lab/dictionaries/26.pt"]
    with serve_repository(repository, "lab/dictionaries") as server:
        lines = run(server, tmp_path, *names)
    assert [line.split()[0] for line in lines] == ["REFUSED"] * 3
    assert "the hub does not give it" in lines[0]
    assert "has nothing with weights at saes/none" in lines[1]


def test_without_network(repository: Path, tmp_path: Path) -> None:
    with serve_repository(repository, "lab/dictionaries") as server:
        lines = run(server, tmp_path, "lab/dictionaries/saes/topk", offline=True)
        assert server.asked == []
    assert lines[0].startswith("REFUSED")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/gemma-scope-2b-pt-res/layer_20", True),
        ("hf://tests/x", True),
        ("tests/fixtures/none", False),
        ("./google/gemma", False),
        ("one-word", False),
        ("/srv/none/x", False),
    ],
)
def test_a_misspelt_local_path_is_not_looked_up(name: str, expected: bool) -> None:
    """`tests` is a folder here, so what follows it is a local path."""
    assert is_repository_path(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2-small-res-jb:blocks.8.hook_resid_pre", True), ("lab/x", False), ("hf://lab/x", False), ("C:\\x", False)],
)
def test_registry_ids(name: str, expected: bool) -> None:
    assert is_registry_id(name) is expected


@pytest.mark.skipif(HAS_SAELENS, reason="needs an environment without sae-lens")
def test_registry_id_without_the_library() -> None:
    with pytest.raises(UsageError, match="sae-lens is not installed"):
        load_dictionary("gpt2-small-res-jb:blocks.8.hook_resid_pre")


@pytest.mark.skipif(not HAS_SAELENS, reason="needs sae-lens, which needs transformer-lens 3.9")
@pytest.mark.parametrize(("release", "centred"), [("gpt2-small-res-jb", True), ("other", False)])
def test_registry_id_with_the_library(monkeypatch: pytest.MonkeyPatch, release: str, centred: bool) -> None:
    """The registry's own download is not ours; what its object becomes is."""
    library: Any = importlib.import_module("sae_lens")
    folder = FIXTURES / "saelens" / "topk" / "checkpoint"
    thing = library.SAE.load_from_disk(folder)
    monkeypatch.setattr(library.SAE, "from_pretrained", lambda *_: thing)
    dictionary: Any = load_dictionary(f"{release}:some/id")
    local: Any = load_dictionary(folder)
    assert dictionary.center_input is centred
    assert (dictionary.weights_digest == local.weights_digest) is not centred
    x = torch.randn(3, 16)
    torch.testing.assert_close(local.encode(x), thing.encode(x), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not HAS_SAELENS, reason="needs sae-lens, which needs transformer-lens 3.9")
def test_registry_id_that_is_unknown() -> None:
    with pytest.raises(UsageError, match="SAELens does not give no-such-release:x"):
        load_dictionary("no-such-release:x")


def test_files_of_one_checkpoint() -> None:
    listed = ["README.md", "a/cfg.json", "a/sae.safetensors", "a/b/sae.safetensors", "c.pt", "c_cfg.json", "d.pt"]
    assert hub._files_of(listed, "a") == ["a/cfg.json", "a/sae.safetensors"]
    assert hub._files_of(listed, "a/b") == ["a/b/sae.safetensors"]
    assert hub._files_of(listed, "c.pt") == ["c.pt", "c_cfg.json"]
    assert hub._files_of(listed, "none") == []
