"""What our pages share: templates, palettes and styles, scripts in one scope, and the policy that forbids all else.

Names of files flow in, their text flows out. A content security policy forbids every request and every script but ours,
so text from a corpus cannot act even where an escape were missing. Knows no run and no figure's data.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from autointerp.report import figures, text

FOLDER = Path(__file__).parent
STYLE, APP = FOLDER / "style", FOLDER / "app"
SHARED_SCRIPTS = tuple(APP / f"{name}.js" for name in ("util", "unpack", "tokens", "window", "tips", "theme"))
"""Script that every page begins with."""


def make_environment(folder: Path) -> Environment:
    """The templates of a folder and those that pages share, with escaping on and no silent blanks."""
    environment = Environment(
        loader=FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=text.fixed,
        short=text.short,
        visible=text.visible,
        one_line=text.one_line,
        share=text.share,
        words=text.words,
        thousands=lambda n: f"{n:,}",
    )
    environment.globals.update(interval=text.interval, shapes=figures.SHAPES, per_cent=text.per_cent)
    return environment


@cache
def read_style(*sheets: Path) -> str:
    """The palettes, then the style sheets; the dark palette serves both who asks for it and whose system does."""
    light, dark = (read_text(STYLE / f"{name}.css") for name in ("light", "dark"))
    themes = (
        f':root {{\n{light}}}\n[data-theme="dark"] {{\n{dark}}}\n'
        f'@media (prefers-color-scheme: dark) {{ [data-theme="auto"] {{\n{dark}}} }}\n'
    )
    return themes + "\n".join(map(read_text, sheets)) + "\n" + level_style()


def level_style() -> str:
    """How high and how dark each level 1..10 is."""
    rules = []
    for k in range(1, 11):
        shade = round(0.04 + 0.039 * k, 3)
        rules.append(f".t{k} {{ --t: {10 * k}% }} .s{k} {{ --s: {10 * k}% }}")
        rules.append(f".t{k} bdi {{ background: rgb(var(--true-rgb) / {shade}) }}")
        rules.append(f".f{k} {{ fill: rgb(var(--true-rgb) / {round(0.2 + 0.08 * k, 2)}) }}")
    return "\n".join(rules)


@cache
def read_script(*files: Path) -> str:
    """Files of script in one closed scope."""
    return '"use strict";(() => {\n' + "\n".join(map(read_text, files)) + "\n})();"


def read_text(path: Path) -> str:
    """A file that travels with the package."""
    return path.read_text(encoding="utf-8")


def make_policy(scripts: Sequence[str]) -> str:
    """A content security policy that forbids every request and every script but these."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
