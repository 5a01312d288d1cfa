"""A checkpoint on disk, each of its files read at most once: what readers recognise formats by and read.

A path to a folder or a file flows in; configs and weights flow out. Knows no format.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from autointerp.errors import UsageError
from autointerp.subject.loaders.config import CheckpointConfig, read_config
from autointerp.subject.loaders.tensors import Weights, read_weights


class Checkpoint:
    """What a user's path stands for: a folder, or one file of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self._configs: dict[str, CheckpointConfig] = {}
        self._weights: dict[Path, Weights] = {}

    def has(self, *names: str) -> bool:
        """Whether all these files are in the folder; a path to a file must be to one of them."""
        if self.path != self.folder and self.path not in [self.folder / name for name in names]:
            return False
        return all((self.folder / name).is_file() for name in names)

    def sole(self, *suffixes: str) -> Path | None:
        """The file the path names, or the only file of its folder, with one of these suffixes."""
        if self.path != self.folder:
            return self.path if self.path.suffix in suffixes else None
        files = [file for file in self.folder.iterdir() if file.suffix in suffixes]
        return files[0] if len(files) == 1 else None

    def require(self, *suffixes: str) -> Path:
        """As `sole`.

        Raises:
            UsageError: there is none, or several.
        """
        file = self.sole(*suffixes)
        if file is None:
            raise UsageError(f"{self.path} is and holds no single {suffixes[0]} file; give the path of the file itself")
        return file

    def config(self, name: str) -> CheckpointConfig:
        """The JSON object in a file of the folder."""
        if name not in self._configs:
            self._configs[name] = read_config(self.folder / name)
        return self._configs[name]

    def weights(self, file: str | Path) -> Weights:
        """The tensors of a file: a name in the folder, or a path as `sole` gives it."""
        path = file if isinstance(file, Path) else self.folder / file
        if path not in self._weights:
            self._weights[path] = read_weights(path)
        return self._weights[path]

    @property
    def configs(self) -> tuple[CheckpointConfig, ...]:
        """The configs that were read so far."""
        return tuple(self._configs.values())

    @property
    def all_weights(self) -> tuple[Weights, ...]:
        """The files of weights that were read so far."""
        return tuple(self._weights.values())

    def tensor_names(self, file: Path) -> tuple[str, ...]:
        """Names of a file's tensors; of safetensors without reading the tensors. A damaged one has none."""
        if file.suffix != ".safetensors":
            return self.weights(file).names
        try:
            with safe_open(file, framework="pt") as opened:
                return tuple(opened.keys())
        except (SafetensorError, OSError):
            return ()

    @classmethod
    def in_memory(
        cls, name: str, config: Mapping[str, object], file: str, values: Mapping[str, object]
    ) -> "Checkpoint":
        """A checkpoint that was never on disk: a config called `name` and weights called `file`."""
        checkpoint = cls(Path("in memory"))
        checkpoint.folder = checkpoint.path
        checkpoint._configs[name] = CheckpointConfig(checkpoint.path / name, config)
        checkpoint._weights[checkpoint.path / file] = Weights(checkpoint.path / file, values)
        return checkpoint
