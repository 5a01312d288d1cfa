"""Finds, checks, fills and hashes the versioned files in `prompts/`.

A file's name and values flow in, texts and digests flow out; `read_back` is the inverse of `render`. Knows no model.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Self, TypeVar

from pydantic import ValidationError, model_validator

from autointerp.errors import UsageError, near_matches
from autointerp.provenance import digest
from autointerp.records import Level, Record
from autointerp.resources import bundled

FEW_SHOTS = "few-shot.v1"
REVISIONS = "revisions.v1"
Data = TypeVar("Data", bound=Record)
_MARK = re.compile(r"^=== (\w+) ===\n", re.MULTILINE)


class Demonstration(Record):
    """One window of an invented feature."""

    tokens: tuple[str, ...]
    levels: tuple[Level, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.tokens) != len(self.levels):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.levels)} levels")
        return self


class FewShot(Record):
    """An invented feature that shows what a good answer looks like."""

    name: str
    kind: str
    explanation: str
    top_outputs: tuple[str, ...] = ()
    bottom_outputs: tuple[str, ...] = ()
    windows: tuple[Demonstration, ...]


class FewShots(Record):
    """All demonstrations of one version."""

    features: tuple[FewShot, ...]

    def named(self, *names: str) -> tuple[FewShot, ...]:
        """Some of them, in the order asked for."""
        by_name = {feature.name: feature for feature in self.features}
        return tuple(by_name[name] for name in names)

    @property
    def digest(self) -> str:
        """Of the content, whatever its layout."""
        return digest(self.model_dump(mode="json"))


class RevisedCase(Record):
    """One window of an invented feature, and what an explanation made a reader predict there."""

    window: int
    """Number of the window among its feature's."""
    predicted: tuple[tuple[int, Level], ...]
    """(place, level) of the tokens whose level was predicted."""


class Revision(Record):
    """An explanation of an invented feature that is revised to the feature's own, and why."""

    feature: str
    before: str
    cases: tuple[RevisedCase, ...]


class Revisions(Record):
    """All demonstrated revisions of one version."""

    revisions: tuple[Revision, ...]

    @property
    def digest(self) -> str:
        """Of the content, whatever its layout."""
        return digest(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Prompt:
    """One prompt file: named sections with `$variables`."""

    name: str
    sections: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of the sections' text."""
        return digest(dict(self.sections))

    def render(self, section: str, **values: str) -> str:
        """Fill a section. A missing or unused value is an error, not a blank.

        Raises:
            UsageError: the section wants other variables, or does not exist.
        """
        template = self._template(section)
        wanted = set(template.get_identifiers())
        if not template.is_valid() or wanted != set(values):
            raise UsageError(
                f"prompt {self.name}, section {section}, wants the variables {sorted(wanted)} and got {sorted(values)}"
            )
        return template.substitute(values)

    def read_back(self, section: str, text: str) -> dict[str, str] | None:
        """The values from which `render` made a text; None where it made no such text."""
        pattern, end = "", 0
        source = self._template(section).template
        for match in Template.pattern.finditer(source):
            name = match["named"] or match["braced"]
            pattern += re.escape(source[end : match.start()]) + (f"(?P<{name}>.*)" if name else re.escape("$"))
            end = match.end()
        found = re.fullmatch(pattern + re.escape(source[end:]), text, re.DOTALL)
        return found.groupdict() if found else None

    def _template(self, section: str) -> Template:
        if section not in self.sections:
            raise UsageError(f"prompt {self.name} has no section {section}; it has {', '.join(self.sections)}")
        return Template(self.sections[section])


def load_prompt(name: str, folder: Path | None = None) -> Prompt:
    """The prompt file `NAME.md` in `folder`, or in the bundled one.

    Raises:
        UsageError: no such file, or text outside its sections.
    """
    return _read_prompt(*_find(f"{name}.md", folder))


@cache
def _read_prompt(path: Path, _changed_ns: int) -> Prompt:
    text = path.read_text(encoding="utf-8")
    head, *pieces = _MARK.split(text)
    if head.strip() or not pieces:
        raise UsageError(f"{path} must begin with a line such as === system ===")
    return Prompt(
        path.stem, {name: body.removesuffix("\n") for name, body in zip(pieces[::2], pieces[1::2], strict=True)}
    )


def load_few_shots(name: str = FEW_SHOTS, folder: Path | None = None) -> FewShots:
    """The demonstrations in `NAME.json`.

    Raises:
        UsageError: no such file, or no demonstrations in it.
    """
    return _read_data(FewShots, name, folder)


def load_revisions(folder: Path | None = None) -> Revisions:
    """The demonstrated revisions of few-shot features.

    Raises:
        UsageError: no such file, or no revisions in it.
    """
    return _read_data(Revisions, REVISIONS, folder)


def _read_data(kind: type[Data], name: str, folder: Path | None) -> Data:
    path, _ = _find(f"{name}.json", folder)
    try:
        return kind.model_validate_json(path.read_bytes())
    except (ValidationError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} holds no demonstrations: {error}") from None


def one_line(text: str) -> str:
    """A text with every run of white space as one space."""
    return " ".join(text.split())


def _find(name: str, folder: Path | None) -> tuple[Path, int]:
    """A file and when it was changed last, in nanoseconds."""
    folder = folder or bundled("prompts")
    path = folder / name
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError:
        known = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        hint = f"; near: {near_matches(name, known)}" if known else ""
        raise UsageError(f"no prompt file {name} in {folder}{hint}") from None
    return path, changed_ns
