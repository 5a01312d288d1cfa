"""The files outside a run's folder that its harvest was made of: refused where they changed since.

A run's folder and its configuration flow in; sizes and times of files are kept in `harvest/inputs.json`.
"""

import json
from pathlib import Path

from autointerp.config import RunConfig, parse_data_set
from autointerp.errors import RunError, UsageError
from autointerp.provenance import write_atomically
from autointerp.settings import NEURON_PREFIXES, PYTHON_DOCS
from autointerp.store.agreement import whole_path

INPUTS = "inputs.json"


def check_inputs(run: Path, harvest: Path, config: RunConfig) -> None:
    """Refuse weights or text that changed on disk since they were harvested.

    Raises:
        UsageError: a file of the model, a dictionary or the corpus has another size or time than at the harvest.
    """
    path = harvest / INPUTS
    now = {name: _stamp(Path(name)) for name in _input_paths(config)}
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, RecursionError):
        raise RunError(f"{path} is damaged; delete it if model, dictionaries and corpus are unchanged") from None
    known = {whole_path(name): stamp for name, stamp in earlier.items()}
    for name, stamp in now.items():
        if earlier.get(name, known.get(whole_path(name), stamp)) != stamp:
            raise UsageError(f"{name} changed since {run} was harvested; choose another --out for what it is now")
    write_atomically(path, json.dumps({**earlier, **now}, indent=1, sort_keys=True))


def _input_paths(config: RunConfig) -> list[str]:
    specs = [config.model, *(d.path for d in config.dictionary if not d.path.startswith(NEURON_PREFIXES))]
    if config.corpus != PYTHON_DOCS:
        data_set = parse_data_set(config.corpus)
        specs.append(data_set.name if data_set else config.corpus)
    return [spec for spec in dict.fromkeys(specs) if Path(spec).exists()]


def _stamp(path: Path) -> list[list[object]]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
