"""`autointerp cache`: a run's replies into a file, and out of one.

Words flow in, one library call each; lines, JSON and an exit code flow out.
"""

from pathlib import Path
from typing import Annotated

import typer

from autointerp.cli.say import say, say_json

app = typer.Typer(name="cache", help="Move the replies that a run used.", no_args_is_help=True)

Cache = Annotated[Path | None, typer.Option(metavar="PATH", help="The reply cache; one per user by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]


@app.command("export")
def export_replies(
    run: Annotated[Path, typer.Option("--run", help="The run whose replies are wanted.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Write every reply that a run used into one file; with it others recompute the run without asking anybody."""
    from autointerp import api

    done = api.export_replies(run, out, cache)
    say(f"{done.replies} replies in {out}")
    if done.missing:
        say(f"{done.missing} replies that the run used are no longer in the cache; whoever imports will miss them")
    if as_json:
        say_json({"out": str(out), **done._asdict()})


@app.command("import")
def import_replies(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file of `autointerp cache export`.")],
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Put the replies of such a file into the cache, after checking that it is whole; `--offline` then finds them."""
    from autointerp import api

    done = api.import_replies(path, cache)
    say(f"{done.new} new replies, {done.known} that were there already")
    for endpoint in done.endpoints:
        say(f"for --llm {endpoint.model} --base-url {endpoint.base_url}")
    if as_json:
        endpoints = [endpoint.model_dump() for endpoint in done.endpoints]
        say_json({"new": done.new, "known": done.known, "endpoints": endpoints})
