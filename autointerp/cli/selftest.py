"""`autointerp selftest`: protocols and judges on planted features whose right answer is known."""

import json
import os
from typing import Annotated

import typer

QUICK_HELP = "Fewer draws: within a minute on two cores."


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help=QUICK_HELP)] = False,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")] = False,
) -> None:
    """Which protocols tell a true explanation from a near-miss, on planted features. Offline, no model."""
    # The statistics are many small products: a second thread of the linear algebra costs more than it gives.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from autointerp.cli.progress import listening
    from autointerp.cli.show_selftest import show_generator_bench
    from autointerp.selftest.bench import FULL, QUICK, as_json_object, run_generator_bench

    with listening() as listener:
        report = run_generator_bench(QUICK if quick else FULL, seed, listener.progress)
    show_generator_bench(report)
    if as_json:
        print(json.dumps(as_json_object(report), ensure_ascii=False, allow_nan=False))
    if not all(check.ok for check in report.checks):
        raise typer.Exit(1)
