"""`autointerp import` and `autointerp export`: bare records in and out.

Words flow in, one library call each; lines, JSON and an exit code flow out.
"""

from pathlib import Path
from typing import Annotated

import typer

from autointerp.cli.progress import listening
from autointerp.cli.say import say, say_json
from autointerp.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]


def import_records(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Tab-separated records, or .jsonl.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    dictionary: Annotated[str, typer.Option("--dictionary", metavar="ID", help="What to call it.")] = "records",
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a run of tokens with activations that you have: no model, no torch. `explain` and `score` follow."""
    from autointerp import api

    with listening() as listener:
        n = api.import_records(path, out, dictionary, seed, listener)
    say(f"{n} features in {out}; next: autointerp score {out}")
    if as_json:
        say_json({"out": str(out), "features": n})


def export_records(
    run: Annotated[str, typer.Argument(metavar="RUN[:ID]", help="A run's folder, and a dictionary where it has more.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    to: Annotated[str, typer.Option(help="tsv or jsonl.")] = "tsv",
    as_json: AsJson = False,
) -> None:
    """Write a run's records as text that `import` reads."""
    from autointerp import api
    from autointerp.store.folder import parse_reference

    if to not in ("tsv", "jsonl"):
        raise UsageError(f"cannot export to {to!r}; choose tsv or jsonl")
    path, dictionary = parse_reference(run)
    n = api.export_records(path, dictionary, "tsv" if to == "tsv" else "jsonl", out)
    say(f"{n} records in {out}")
    if as_json:
        say_json({"out": str(out), "records": n})
