"""Writes the command line's help and the configuration table into README.md, between their marks, and the schema of
compare.json.

    python docs/generate.py

A test holds both equal to what this would write.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from autointerp.cli.main import app
from autointerp.compare.data import Comparison
from autointerp.config import DictionaryConfig, EndpointConfig, ExplainConfig, HarvestConfig, RunConfig, ScoreConfig

README = Path(__file__).resolve().parents[1] / "README.md"
SCHEMA = Path(__file__).resolve().parent / "compare.schema.json"
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", RunConfig),
    ("[[dictionary]]", DictionaryConfig),
    ("[harvest]", HarvestConfig),
    ("[endpoint]", EndpointConfig),
    ("[explain]", ExplainConfig),
    ("[score]", ScoreConfig),
)


def commands() -> str:
    """One line a command."""
    rows = ["| command | what it does |", "| --- | --- |"]
    for name, command in _leaves("autointerp", typer.main.get_command(app)):
        first = textwrap.dedent(command.help or "").strip().split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(rows)


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, under all its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, below in inner.items():
        yield from _leaves(f"{name} {word}", below)


def settings() -> str:
    """One line a configuration key, with its default and meaning."""
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for section, model in SECTIONS:
        meanings = attribute_docstrings(model)
        for name, field in model.model_fields.items():
            if isinstance(field.default, BaseModel) or name == "records" or (name == "dictionary" and not section):
                continue
            default = "" if field.is_required() or field.default in (None, "") else f"`{field.default}`"
            rows.append(f"| `{f'{section} {name}'.strip()}` | {default} | {meanings.get(name, '')} |")
    return "\n".join(rows)


def attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field in the source."""
    source = Path(__import__("inspect").getfile(model)).read_text(encoding="utf-8")
    body = source.split(f"class {model.__name__}(")[1].split("\nclass ")[0]
    found = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', body, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def fill(readme: str) -> str:
    """The text with its generated parts made anew."""
    for name, text in (("commands", commands()), ("settings", settings())):
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        readme = mark.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", readme)  # type: ignore[misc]
    return readme


def comparison_schema() -> str:
    """The JSON schema of compare.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Comparison.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(comparison_schema(), encoding="utf-8")
    README.write_text(fill(README.read_text(encoding="utf-8")), encoding="utf-8")
