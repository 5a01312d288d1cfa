"""The package keeps its shape: small modules and functions, empty folder inits, tables keyed by their Literals."""

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import autointerp
from autointerp import config

PACKAGE = Path(autointerp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_MODULE_LINES = 400
MOST_FUNCTION_LINES = 50
LAZY = {"cli", "api.py", "aio.py", "__init__.py"}


def _id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_module_is_small_and_says_what_it_is(path: Path) -> None:
    """Guards against one file growing until it decides everything."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_MODULE_LINES
    tree = ast.parse(text)
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert text == "", "folder inits stay empty"
        return
    assert ast.get_docstring(tree), "every module has a header"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_imports_stand_on_top(path: Path) -> None:
    """Guards the layering: an import hidden in a function escapes notice (and import-linter's reader)."""
    if LAZY & set(path.relative_to(PACKAGE).parts):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not hidden, f"{node.name} imports inside"


def test_no_public_name_hides_a_submodule() -> None:
    """`autointerp.score` must not be a function at one time and a module at another."""
    submodules = {module.name for module in pkgutil.iter_modules(autointerp.__path__)}
    assert not submodules & set(autointerp.__all__)
    for name in autointerp.__all__:
        assert getattr(autointerp, name) is not None


def test_tables_hold_exactly_their_choices() -> None:
    """A choice that the configuration accepts has an implementation, and no other."""
    from autointerp import backends
    from autointerp.interpret.protocols import PROTOCOLS

    assert tuple(PROTOCOLS) == config.choices(config.ProtocolName)
    assert tuple(backends.EXPLAINERS) == config.choices(config.ExplainerName)
    assert tuple(backends.SIMULATORS) == config.choices(config.SimulatorName)


HEAVY = ("torch", "transformer_lens", "transformers", "openai", "aiohttp", "scipy", "sqlalchemy", "numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import autointerp",
        "from autointerp.cli.main import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
        "from autointerp.cli.main import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0",
    ],
)
def test_help_is_light(code: str) -> None:
    """`import autointerp` and `--help` load nothing that takes long."""
    script = f"import sys, json; {code}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []


def test_after_the_harvest_nothing_needs_torch() -> None:
    """Explaining, scoring and reporting run where torch is not installed."""
    script = "import sys; from autointerp import api; print(int('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_every_module_imports() -> None:
    """No module is broken on its own."""
    for path in MODULES:
        if "migrations" not in path.parts:
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
