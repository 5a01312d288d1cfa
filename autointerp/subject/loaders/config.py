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

    def text(self, *keys: str, default: str | None = None) -> str | None:
        """The first of `keys` that is there and not null, as text."""
        value = self._first(keys)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(keys[0], value, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A true or false."""
        value = self._first((key,))
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def whole(self, *keys: str) -> int:
        """The first of `keys` that is there, as an integer of at least 1."""
        value = self._first(keys)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(keys[0], value, "a whole number of at least 1")
        return value

    def section(self, key: str) -> "CheckpointConfig":
        """An object inside, empty where it is absent."""
        value = self._first((key,))
        if value is None:
            return CheckpointConfig(self.path, {})
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return CheckpointConfig(self.path, value)

    def _first(self, keys: tuple[str, ...]) -> object:
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)

    def _wrong(self, key: str, value: object, wanted: str) -> UsageError:
        return UsageError(f"{self.path}: {key} is {value!r}, expected {wanted}")


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
