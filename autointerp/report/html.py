"""A run's report as one HTML file that needs nothing else: no server, no network, no second file.

Report data flows in, the text of the file flows out. The summary is in the page itself and readable without scripts;
per-feature evidence travels compressed and is opened on demand. A content security policy forbids every request and
every script but ours, so text from a corpus cannot act even where an escape were missing.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from autointerp.report import figures, text
from autointerp.report.data import DictionaryEntry, FeatureEntry, ReportData
from autointerp.report.pack import FEATURES_PER_CHUNK, deflate, make_chunks, make_rows, to_json

FOLDER = Path(__file__).parent
SCRIPTS = ("util", "store", "tokens", "plots", "windows", "card", "table", "scatter", "main")
VENDORED = ("vega", "vega-lite", "vega-embed")
STATES = ("scored", "undefined", "failed", "skipped")


def render_report(data: ReportData) -> str:
    """The whole report as HTML."""
    script, charts = read_script(), read_charts()
    environment = make_environment()
    axis = figures.axis_of(data.features)
    groups = [[f for f in data.features if f.dictionary == d.id] for d in data.dictionaries]
    peak = figures.peak_of(groups, axis)
    return environment.get_template("report.html").render(
        run=data.run,
        panels=[_panel(d, group, axis, peak) for d, group in zip(data.dictionaries, groups, strict=True)],
        ticks=axis.ticks(),
        features=data.features,
        states=_states(data.features),
        rows=to_json(_page_data(data)),
        chunks=make_chunks(data.features),
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        script=script,
        charts=deflate(charts),
        policy=_policy([script, charts]),
    )


def make_environment() -> Environment:
    """Templates with escaping on and no silent blanks."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=text.fixed, visible=text.visible, share=text.share, words=text.words, thousands=lambda n: f"{n:,}"
    )
    environment.globals.update(interval=text.interval)
    return environment


@cache
def read_script() -> str:
    """Our own script: the files of `app/` in one closed scope."""
    parts = [(FOLDER / "app" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return '"use strict";(() => {\n' + "\n".join(parts) + "\n})();"


@cache
def read_charts() -> str:
    """The chart library with its licences; run only once the page stands."""
    notices = (FOLDER / "vendor" / "NOTICES.txt").read_text(encoding="utf-8").replace("*/", "* /")
    parts = [(FOLDER / "vendor" / f"{name}.min.js").read_text(encoding="utf-8") for name in VENDORED]
    return f"/*\n{notices}*/\n" + "\n;".join(parts)


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _panel(
    dictionary: DictionaryEntry, features: Sequence[FeatureEntry], axis: figures.Axis, peak: float
) -> dict[str, object]:
    scored = [f for f in features if f.spearman.value is not None]
    tested = [f for f in scored if f.spearman.null_threshold is not None]
    lifted = [f for f in scored if f.lift.low is not None]
    return {
        "dictionary": dictionary,
        "summary": dictionary.summary,
        "figure": figures.distribution(features, dictionary.summary, axis, peak),
        "above_null": _count(
            sum((f.spearman.value or 0) > (f.spearman.null_threshold or 0) for f in tested), len(tested)
        ),
        "beats_lookup": _count(sum((f.lift.low or 0) > 0 for f in lifted), len(lifted)),
    }


def _count(n: int, of: int) -> str:
    return f"{n} of {of}" if of else "–"


def _states(features: Sequence[FeatureEntry]) -> dict[str, int]:
    return {state: sum(f.state == state for f in features) for state in STATES}


def _page_data(data: ReportData) -> dict[str, object]:
    return {
        "dictionaries": [
            {"id": d.id, "role": d.role, "kind": text.visible(d.kind), "hook": text.visible(d.hook_point)}
            for d in data.dictionaries
        ],
        "perChunk": FEATURES_PER_CHUNK,
        "rows": make_rows(data.features, data.dictionaries),
    }
