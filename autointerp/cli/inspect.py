"""`autointerp inspect`: what a dictionary's files are.

A path flows in, one library call; a table, JSON and an exit code flow out.
"""

from pathlib import Path
from typing import Annotated

import typer

from autointerp.cli.options import AsJson
from autointerp.cli.say import say_json
from autointerp.errors import UsageError


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A dictionary's folder or file.")],
    format: Annotated[str | None, typer.Option(help="Its format, where its files leave a doubt.")] = None,  # noqa: A002
    as_json: AsJson = False,
) -> None:
    """Say what a dictionary's files are: format, shape, where it reads, how it encodes, what is odd."""
    from autointerp.cli.show import show_inspection
    from autointerp.settings import NEURON_PREFIXES, RANDOM_PREFIX
    from autointerp.subject.inspection import inspect_dictionary

    if str(path).startswith((*NEURON_PREFIXES, RANDOM_PREFIX)):
        raise UsageError(
            f"{path} has no files, and inspect looks at files only; "
            f"`autointerp doctor --model MODEL --dictionary {path}` says what it is in a model"
        )
    seen = inspect_dictionary(path, format)
    show_inspection(seen)
    if as_json:
        say_json(seen.model_dump(mode="json"))
