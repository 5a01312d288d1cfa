"""The JSON file beside a checkpoint's weights, read key by key with errors that name the file and the key.

A path flows in, checked plain values flow out. Knows no format.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from autointerp.errors import UsageError

LARGEST = 3.4028234663852886e38
"""Of float32."""


class CheckpointConfig:
    """One JSON object from a checkpoint's folder, which remembers the keys that were asked for."""

    def __init__(
        self, path: Path, values: Mapping[str, object], asked: set[str] | None = None, inside: str = ""
    ) -> None:
        self.path = path
        self.values = values
        self.asked: set[str] = set() if asked is None else asked
        """Keys that a reader looked at, those of sections as `SECTION.KEY`."""
        self._inside = inside

    def get(self, *keys: str) -> object:
        """The first of `keys` that is there and not null, or None."""
        self.asked.update(self._inside + key for key in keys)
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)

    def text(self, *keys: str) -> str | None:
        """The first of `keys` that is there, as text, or None."""
        value = self.get(*keys)
        if value is not None and not isinstance(value, str):
            raise self.wrong(keys[0], "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A true or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def number(self, *keys: str) -> float:
        """The first of `keys` that is there, as a number that float32 can hold."""
        value = self.get(*keys)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise self.wrong(keys[0], "a number")
        return float(value)

    def norm(self, key: str) -> float:
        """A number above zero."""
        value = self.number(key)
        if value <= 0:
            raise self.wrong(key, "a number above zero")
        return value

    def whole(self, *keys: str) -> int:
        """The first of `keys` that is there, as an integer of at least 1."""
        value = self.get(*keys)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(keys[0], "a whole number of at least 1")
        return value

    def section(self, key: str) -> "CheckpointConfig":
        """An object inside, empty where it is absent."""
        value = self.get(key)
        if value is None:
            return CheckpointConfig(self.path, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return CheckpointConfig(self.path, value, self.asked, f"{self._inside}{key}.")

    def left(self) -> dict[str, object]:
        """Keys that nobody asked for and that are not off (null, false, zero, empty, "none"), sections opened."""
        return {key: value for key, value in _flat(self.values, self.asked, "") if not _is_off(value)}

    def wrong(self, key: str, wanted: str) -> UsageError:
        """The error for a key whose value is not what it must be."""
        if self.get(key) is None:
            return UsageError(f"{self.path} has no {key}, expected {wanted}; is the format right?")
        return UsageError(f"{self.path}: {key} is {self.values[key]!r}, expected {wanted}")


def _flat(values: Mapping[str, object], asked: set[str], inside: str) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        name = inside + key
        if isinstance(value, dict) and (name in asked or any(k.startswith(f"{name}.") for k in asked)):
            yield from _flat(value, asked, f"{name}.")
        elif name not in asked:
            yield name, value


def _is_off(value: object) -> bool:
    return not value or (isinstance(value, str) and value.lower() in ("none", "no", "off", "false"))


def read_config(path: Path) -> CheckpointConfig:
    """The JSON object in a file, or the plain lines `key: value` at the top level of a `.yaml`.

    Raises:
        UsageError: the file is missing or holds no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = _plain_yaml(text) if path.suffix == ".yaml" else json.loads(text)
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing; the dictionary's folder is not complete") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}); copy or download it again") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no JSON object; copy or download it again")
    return CheckpointConfig(path, values)


def _plain_yaml(text: str) -> dict[str, object]:
    pairs = re.findall(r"^(\w+):[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return {key: {"true": True, "false": False}.get(value.lower(), value) for key, value in pairs}
