"""Settings as plain values: a TOML file, the environment and flags, before they are checked.

Text flows in, nested dictionaries flow out (`config` makes a `RunConfig` of them). Opens no file but the TOML.
"""

import errno
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autointerp.errors import UsageError

NEURON_PREFIXES = ("neurons@", "neurons-both@")
RANDOM_PREFIX = "random@"
PYTHON_DOCS = "python-docs"
DATA_SET_PREFIX = "hf:"
ENVIRONMENT_PREFIX = "AUTOINTERP_"
NO_SETTINGS = ("AUTOINTERP_LOOPBACK_ONLY", "AUTOINTERP_CHROMIUM")
"""Variables that are no keys of a configuration: `llm.registry` and the browser tests read them."""
DICTIONARY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
OF_A_HARVEST = ("model", "hook_point", "dictionary", "corpus", "records", "out", "seed", "harvest")
_PATHS = ("model", "corpus", "prices")


def nested_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    """`section.key` as a key of a section; None is no setting."""
    values: dict[str, Any] = {}
    for name, value in flags.items():
        section, dot, key = name.rpartition(".")
        if value is not None:
            (values.setdefault(section, {}) if dot else values)[key] = value
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """A configuration file, its relative paths beside it made absolute where they exist.

    Raises:
        UsageError: no such file, or no TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration file {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    for holder, key in [(values, key) for key in _PATHS] + [(d, "path") for d in _tables(values)]:
        value = holder.get(key)
        if isinstance(value, str):
            holder[key] = _beside(path.parent, value)
    return values


def _beside(folder: Path, value: str) -> str:
    """A path, or the path inside `hf:FOLDER:SPLIT`, made absolute where it exists in the folder."""
    prefix = DATA_SET_PREFIX if value.startswith(DATA_SET_PREFIX) else ""
    name, split = name_and_split(value.removeprefix(prefix), folder) if prefix else (value, "")
    if not name or not os.path.exists(folder / name):
        return value
    return prefix + str((folder / name).resolve()) + (f":{split}" if split else "")


def name_and_split(text: str, folder: Path = Path()) -> tuple[str, str]:
    """`NAME[:SPLIT]` of a data set in two; a colon is part of the name where such a file or folder exists."""
    name, _, split = text.rpartition(":")
    if os.path.exists(folder / text):
        return text, ""
    if name and os.path.exists(folder / name):
        return name, split
    name, _, split = text.partition(":")
    return name, split


def encodes(text: str) -> bool:
    """Whether UTF-8 can hold a text; it cannot hold the name of a file whose bytes are not UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def is_too_long(path: str) -> bool:
    """Whether the file system has no room for a name."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    except ValueError:
        return False
    return False


def _tables(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = values.get("dictionary", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UsageError("dictionaries are written as [[dictionary]] tables, each with a path")
    return tables


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`AUTOINTERP_SEED`, `AUTOINTERP_HARVEST__BATCH_SIZE`: top-level keys and, after two underscores, section keys."""
    values: dict[str, Any] = {}
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NO_SETTINGS:
            *sections, key = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
            holder = values
            for section in sections:
                holder = holder.setdefault(section, {})
                if not isinstance(holder, dict):
                    raise UsageError(f"{name}: {section!r} is set to a text of its own by another variable; unset one")
            holder[key] = text
    return values


def with_environment(changes: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """Changes to a run that exists, under `key` or `section.key`: the environment's, and over them those given.

    What a harvest depends on stays as it is in the run: a variable for the next harvest says nothing of this one.
    """
    found: dict[str, object] = {}
    for key, value in from_environment(environment).items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": own for inner, own in value.items()}
        else:
            found[key] = value
    kept = {key: value for key, value in found.items() if key.partition(".")[0] not in OF_A_HARVEST}
    return kept | {key: value for key, value in changes.items() if value is not None}


def merge(values: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Later settings over earlier ones, section by section, in place."""
    for key, value in later.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


def with_ids(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name every dictionary that has no id after the last part of its path, `-2` where taken."""
    taken = {str(table["id"]) for table in tables if "id" in table}
    named = []
    for table in tables:
        if "id" in table or not isinstance(table.get("path"), str):
            named.append(table)
            continue
        path = str(table["path"])
        last = "neurons" if path.startswith(NEURON_PREFIXES) else Path(path).name
        base = re.sub(r"[^a-z0-9._-]", "-", last.lower()).lstrip("._-")[:60] or "dictionary"
        name, n = base, 1
        while name in taken:
            n += 1
            name = f"{base}-{n}"
        taken.add(name)
        named.append({"id": name, **table})
    return named


def device_type(name: str) -> str:
    """`cuda` of `cuda:1`: what a shard's bytes depend on, whichever of several alike devices makes it."""
    return name.partition(":")[0]
