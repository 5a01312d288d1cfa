"""Names of models, and that no test reaches an endpoint off this machine."""

import pytest

from autointerp.errors import UsageError
from autointerp.llm.registry import LOOPBACK_ONLY, connect_model, split_model_name
from autointerp.llm.wrappers import Cached, Metered
from tests.unit.llm.test_wrappers import MemoryCache


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-x", ("openai", "gpt-x")),
        ("openai:gpt-x", ("openai", "gpt-x")),
        ("llama3.1:8b", ("openai", "llama3.1:8b")),
        ("openai:llama3.1:8b", ("openai", "llama3.1:8b")),
        ("org/model:free", ("openai", "org/model:free")),
    ],
)
def test_a_prefix_that_is_no_provider_belongs_to_the_name(name: str, expected: tuple[str, str]) -> None:
    assert split_model_name(name) == expected


def test_a_name_is_needed() -> None:
    for name in ("", "openai:", " "):
        with pytest.raises(UsageError):
            split_model_name(name)


def test_the_cache_is_outside_the_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    plain = connect_model("m", base_url="http://localhost:1/v1")
    assert isinstance(plain.model, Metered)
    kept = connect_model("m", base_url="http://localhost:1/v1", cache=MemoryCache())
    assert isinstance(kept.model, Cached)
    assert kept.model.inner is kept.meter
    assert kept.model.name == "openai:m"


def test_only_loopback_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard that keeps tests from spending money."""
    monkeypatch.setenv(LOOPBACK_ONLY, "1")
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for url in (None, "https://example.org/v1", "http://10.0.0.1/v1", "http://127.0.0.1.example.org/v1"):
        with pytest.raises(UsageError, match=LOOPBACK_ONLY):
            connect_model("m", base_url=url)
    for url in ("http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"):
        connect_model("m", base_url=url)
