"""The JSON file beside a checkpoint's weights, read key by key with errors that name the file and the key.

A path flows in, checked plain values flow out. Knows no format.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from autointerp.errors import UsageError


class CheckpointConfig:
    """One JSON object from a checkpoint's folder."""

    def __init__(self, path: Path, values: Mapping[str, object]) -> None:
        self.path = path
        self.values = values

    def get(self, *keys: str) -> object:
        """The first of `keys` that is there and not null, or None."""
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
        """The first of `keys` that is there, as a number."""
        value = self.get(*keys)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(keys[0], "a number")
        return float(value)

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
        return CheckpointConfig(self.path, value)

    def wrong(self, key: str, wanted: str) -> UsageError:
        """The error for a key whose value is not what it must be."""
        if self.get(key) is None:
            return UsageError(f"{self.path} has no {key}, expected {wanted}; is the format right?")
        return UsageError(f"{self.path}: {key} is {self.values[key]!r}, expected {wanted}")


def read_config(path: Path) -> CheckpointConfig:
    """The JSON object in a file.

    Raises:
        UsageError: the file is missing or holds no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing; the dictionary's folder is not complete") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}); copy or download it again") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no JSON object; copy or download it again")
    return CheckpointConfig(path, values)
