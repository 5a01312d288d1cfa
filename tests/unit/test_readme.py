"""The README says what the program does: its generated parts are those of today's code."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    """Guards against a flag or a setting that changed without its line in the README (run docs/generate.py)."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert _generator().fill(text) == text


def test_schema_of_a_comparison_is_up_to_date() -> None:
    """Guards against a field of compare.json that the committed schema does not name (run docs/generate.py)."""
    assert (ROOT / "docs" / "compare.schema.json").read_text(encoding="utf-8") == _generator().comparison_schema()


def test_every_setting_is_explained() -> None:
    """A key without a meaning helps nobody."""
    rows = _generator().settings().splitlines()[2:]
    assert [row for row in rows if row.endswith("|  |")] == []
