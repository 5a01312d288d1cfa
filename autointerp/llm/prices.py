"""What replies cost: the dated table of the package, and a user's own over it.

Hosts, models and usage flow in; US dollars flow out, or None where the price is not known: it is never guessed.
Knows no run and no budget.
"""

import datetime
import re
import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from autointerp.errors import UsageError
from autointerp.llm.base import Endpoint
from autointerp.records import Record, Usage

BUILT_IN = Path(__file__).with_name("prices.toml")
PER = 1_000_000
"""Tokens that a price is for."""
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""Snapshots of a model, which cost what it costs."""
Dollars = Annotated[float, Field(ge=0)]


class Rate(Record):
    """US dollars per million tokens."""

    input: Dollars
    cached_input: Dollars | None = None
    """Of input tokens that the provider had in its prefix cache; as `input` where absent."""
    output: Dollars


class _Provider(Record):
    name: str = ""
    host: str | None = None
    """None for prices that hold everywhere."""
    source: str = ""
    date: datetime.date | None = None
    batch: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What a batch costs, as a share of the live price."""
    models: dict[str, Rate]


class _Table(Record):
    provider: tuple[_Provider, ...]


class Quote(Record):
    """The price of one model, and where it is from."""

    rate: Rate
    batch: float
    """What a batch costs, as a share of the live price."""
    source: str
    """The page or the file, with its date."""

    def price(self, usage: Usage, *, batch: bool = False) -> float:
        """US dollars."""
        cached = usage.cached_input_tokens
        of_cached = self.rate.input if self.rate.cached_input is None else self.rate.cached_input
        dollars = (
            (usage.input_tokens - cached) * self.rate.input
            + cached * of_cached
            + usage.output_tokens * self.rate.output
        )
        return dollars / PER * (self.batch if batch else 1.0)


class Prices:
    """The prices in force."""

    def __init__(self, own: Path | None = None) -> None:
        """The package's, and a file of the user's that wins over them.

        Raises:
            UsageError: that file cannot be read as a table of prices.
        """
        self._providers = [
            (_said_source(provider, path), provider)
            for path in (own, BUILT_IN)
            if path is not None
            for provider in _read(path).provider
        ]

    def quote(self, endpoint: Endpoint) -> Quote | None:
        """The price of an endpoint's model; None where it is not known."""
        host = urlsplit(endpoint.base_url).hostname
        names = dict.fromkeys((endpoint.model, _DATED.sub("", endpoint.model)))
        for source, provider in self._providers:
            if provider.host not in (None, host):
                continue
            for name in names:
                if name in provider.models:
                    return Quote(rate=provider.models[name], batch=provider.batch, source=source)
        return None

    def price(self, endpoint: Endpoint, usage: Usage, *, batch: bool = False) -> float | None:
        """US dollars; None where the price is not known."""
        quote = self.quote(endpoint)
        return None if quote is None else quote.price(usage, batch=batch)


def _said_source(provider: _Provider, path: Path) -> str:
    source = provider.source or str(path)
    return source if provider.date is None else f"{source}, {provider.date.isoformat()}"


def _read(path: Path) -> _Table:
    try:
        return _Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the prices in {path}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{path}: {place!r}: {first['msg']}; write prices as autointerp/llm/prices.toml does"
        ) from None
