"""What a run leaves behind, feature by feature: the only SQL of the package.

Records flow in and out; nothing here computes. A step's rows and its outcome commit together, so a killed run holds
whole steps only. Knows no corpus, no model and no LLM.
"""

import sqlite3
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.sqlite import insert

from autointerp.errors import RunError
from autointerp.files import refuse_odd_database
from autointerp.limits import unpack
from autointerp.provenance import digest
from autointerp.records import (
    Done,
    Explanation,
    Failed,
    FeatureId,
    FeatureRecord,
    Outcome,
    Record,
    Refinement,
    Simulation,
    Skipped,
    Usage,
)
from autointerp.scores import FeatureScore
from autointerp.store import schema
from autointerp.store.database import DiskError, database_error, refuse_programs
from autointerp.store.migrate import migrate

R = TypeVar("R", bound=Record)


class StoredExplanation(NamedTuple):
    """An explanation and its key in the store."""

    id: int
    explanation: Explanation


class ScoreKey(NamedTuple):
    """Which way of scoring a row belongs to."""

    protocol: str
    explainer: str
    simulator: str


class RunStore:
    """One run's database; a single writer, guarded by the run's lock."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        """Open or create it; for `reading`, also where the disk lets nothing be written.

        Raises:
            RunError: it is damaged, or the disk is in the way.
            UsageError: it is a link, or was made by a later version.
        """
        refuse_odd_database(path)
        self._path = path
        url = sa.URL.create("sqlite", database=str(path))
        try:
            self._open(url)
        except DiskError:
            wal = path.with_name(path.name + "-wal")
            if not reading or not path.is_file() or (wal.is_file() and wal.stat().st_size):
                raise
            # As it was left when it was last closed: nobody can write it now.
            query = {"uri": "true", "immutable": "1", "mode": "ro"}
            self._open(sa.URL.create("sqlite", database=path.resolve().as_uri(), query=query))

    def _open(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url)
        reading = "immutable" in url.query
        sa.event.listen(self._engine, "connect", _on_connect_to_read if reading else _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        try:
            with self._told():
                self._connection = self._engine.connect()
                raw = self._connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                refuse_programs(raw, self._path, "store")
                migrate(self._connection, self._path)
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says against the file, as a sentence."""
        try:
            yield
        except sa.exc.DatabaseError as error:
            raise database_error(error.orig, self._path, "store") from None
        except sqlite3.Error as error:
            raise database_error(error, self._path, "store") from None

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
        self._engine.dispose()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Everything written inside commits together or not at all."""
        with self._told(), self._connection.begin():
            yield

    def put_record(self, record: FeatureRecord) -> None:
        """Keep a feature's examples."""
        values = {**_feature(record.feature), "design": record.design, "body": _pack(record)}
        self._put(schema.records, {**values, "digest": digest(record.model_dump(mode="json"))})

    def record(self, feature: FeatureId, design: str) -> FeatureRecord | None:
        """A feature's examples under a design."""
        t = schema.records
        body = self._first(sa.select(t.c.body).where(*_is(t, feature), t.c.design == design))
        return self._unpack(FeatureRecord, body) if body else None

    def records(self, dictionary: str, design: str) -> list[FeatureRecord]:
        """All examples of a dictionary under a design, by feature."""
        t = schema.records
        query = sa.select(t.c.body).where(t.c.dictionary == dictionary, t.c.design == design).order_by(t.c.feature)
        return [self._unpack(FeatureRecord, body) for body in self._scalars(query)]

    def put_explanation(self, explanation: Explanation, design: str, explainer: str) -> None:
        """Keep an explanation under the explainer's key."""
        self._put(
            schema.explanations,
            {
                **_feature(explanation.feature),
                "design": design,
                "explainer": explainer,
                "author": explanation.author,
                "text": explanation.text,
                "prompt_digest": explanation.prompt_digest,
                "examples_digest": explanation.examples_digest,
                "body": _pack(explanation),
            },
        )

    def explanation(self, feature: FeatureId, design: str, explainer: str) -> StoredExplanation | None:
        """The explanation of a feature under an explainer's key."""
        t = schema.explanations
        query = sa.select(t.c.id, t.c.body).where(*_is(t, feature), t.c.design == design, t.c.explainer == explainer)
        rows = self._rows(query)
        return StoredExplanation(rows[0].id, self._unpack(Explanation, rows[0].body)) if rows else None

    def refinements(self, dictionary: str, design: str, explainer: str) -> dict[int, Refinement]:
        """What refining came to, by feature, where a revision came."""
        t = schema.explanations
        query = sa.select(t.c.body).where(
            t.c.dictionary == dictionary, t.c.design == design, t.c.explainer == explainer
        )
        found = [self._unpack(Explanation, body) for body in self._scalars(query)]
        return {e.feature.index: e.refinement for e in found if e.refinement is not None}

    def explained(self, dictionary: str, design: str, explainer: str) -> list[int]:
        """Features of a dictionary that have an explanation, ascending."""
        t = schema.explanations
        query = sa.select(t.c.feature).where(
            t.c.dictionary == dictionary, t.c.design == design, t.c.explainer == explainer
        )
        return sorted(self._scalars(query))

    def put_score(
        self, score: FeatureScore, explanation: int, key: ScoreKey, simulations: dict[str, Simulation]
    ) -> None:
        """Keep a score and the simulations behind it (`explanation`, `shuffled`)."""
        names = {**_feature(score.feature), **key._asdict()}
        self._put(
            schema.scores,
            {
                **names,
                "explanation": explanation,
                "spearman": score.spearman.value,
                "undefined": score.spearman.undefined,
                "low": score.spearman.low,
                "high": score.spearman.high,
                "lookup": score.lookup.value,
                "shuffled": score.shuffled.value,
                "body": _pack(score),
            },
        )
        for control, simulation in simulations.items():
            self._put(schema.simulations, {**names, "control": control, "body": _pack(simulation)})

    def scores(self, dictionary: str, key: ScoreKey) -> list[FeatureScore]:
        """All scores of a dictionary under a key, by feature."""
        t = schema.scores
        query = sa.select(t.c.body).where(t.c.dictionary == dictionary, *_has(t, key)).order_by(t.c.feature)
        return [self._unpack(FeatureScore, body) for body in self._scalars(query)]

    def score_keys(self, dictionary: str) -> list[ScoreKey]:
        """Every way of scoring that has a score of the dictionary, the first used first."""
        t = schema.scores
        columns = (t.c.protocol, t.c.explainer, t.c.simulator)
        query = sa.select(*columns).where(t.c.dictionary == dictionary).group_by(*columns)
        rows = self._rows(query.order_by(sa.text("min(rowid)")))
        return [ScoreKey(row.protocol, row.explainer, row.simulator) for row in rows]

    def record_digests(self, dictionary: str, design: str) -> dict[int, str]:
        """A digest of each feature's examples under a design: equal where the windows are."""
        t = schema.records
        query = sa.select(t.c.feature, t.c.digest).where(t.c.dictionary == dictionary, t.c.design == design)
        return {row.feature: row.digest for row in self._rows(query)}

    def usage(self, dictionary: str, design: str, key: ScoreKey, steps: Sequence[str]) -> Usage:
        """What a dictionary's explanations and scores under a key, and the failures of these steps, cost."""
        t = schema.explanations
        query = sa.select(t.c.body).where(
            t.c.dictionary == dictionary, t.c.design == design, t.c.explainer == key.explainer
        )
        spent = [self._unpack(Explanation, body).usage for body in self._scalars(query)]
        ended = [outcome for step in steps for outcome in self.outcomes(dictionary, step).values()]
        spent += [outcome.usage for outcome in ended if isinstance(outcome, Failed)]
        return sum((*spent, *(score.usage for score in self.scores(dictionary, key))), Usage())

    def simulation(self, feature: FeatureId, key: ScoreKey, control: str) -> Simulation | None:
        """The simulation behind a score: of the `explanation`, or of the `shuffled` one."""
        t = schema.simulations
        body = self._first(sa.select(t.c.body).where(*_is(t, feature), *_has(t, key), t.c.control == control))
        return self._unpack(Simulation, body) if body else None

    def with_lost_windows(self, dictionary: str, key: ScoreKey, for_reason: Callable[[str], bool]) -> set[int]:
        """Features with a simulation in which some window failed for such a reason."""
        return {feature for feature, reasons in self._lost(dictionary, key) if any(map(for_reason, reasons))}

    def lost_windows(self, dictionary: str, key: ScoreKey) -> dict[str, int]:
        """How many features have a simulation in which some window failed, by reason."""
        pairs = {(feature, reason) for feature, reasons in self._lost(dictionary, key) for reason in reasons}
        return dict(Counter(reason for _, reason in pairs).most_common())

    def _lost(self, dictionary: str, key: ScoreKey) -> Iterator[tuple[int, set[str]]]:
        """Features and why windows of one of their simulations failed."""
        t = schema.simulations
        query = sa.select(t.c.feature, t.c.body).where(t.c.dictionary == dictionary, *_has(t, key))
        for row in self._rows(query):
            reasons = {reason for _, reason in self._unpack(Simulation, row.body).failures}
            if reasons:
                yield row.feature, reasons

    def put_outcome(self, feature: FeatureId, step: str, outcome: Outcome) -> None:
        """How a step ended for a feature; a later end replaces an earlier one."""
        failed = outcome if isinstance(outcome, Failed) else None
        self._put(
            schema.outcomes,
            {
                **_feature(feature),
                "step": step,
                "kind": outcome.kind,
                "stage": failed.stage if failed else None,
                "reason": None if isinstance(outcome, Done) else outcome.reason,
                "message": failed.message if failed else None,
                "attempts": failed.attempts if failed else 1,
                "usage": failed.usage.model_dump_json() if failed else None,
            },
        )

    def outcomes(self, dictionary: str, step: str) -> dict[int, Outcome]:
        """How a step ended, by feature."""
        t = schema.outcomes
        query = sa.select(t).where(t.c.dictionary == dictionary, t.c.step == step)
        try:
            return {row.feature: _outcome(row) for row in self._rows(query)}
        except ValidationError:
            raise self._damaged("an outcome is of another shape") from None

    def ends(self, dictionary: str, step: str) -> dict[int, str]:
        """How a step ended, by feature, in a word: `done`, `skipped`, or the reason of a failure."""
        t = schema.outcomes
        word = sa.case((t.c.kind == "failed", t.c.reason), else_=t.c.kind)
        query = sa.select(t.c.feature, word.label("word")).where(t.c.dictionary == dictionary, t.c.step == step)
        return {row.feature: sys.intern(str(row.word)) for row in self._rows(query)}

    def _put(self, table: sa.Table, values: dict[str, object]) -> None:
        statement = insert(table).values(values)
        keys = [c.name for c in table.primary_key] if table is not schema.explanations else _EXPLANATION_KEY
        rest = {name: value for name, value in values.items() if name not in keys}
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._told():
            if self._connection.in_transaction():
                return self._connection.execute(query).all()
            with self._connection.begin():
                return self._connection.execute(query).all()

    def _scalars(self, query: sa.Select[Any]) -> list[Any]:
        return [row[0] for row in self._rows(query)]

    def _unpack(self, kind: type[R], body: object) -> R:
        """A record as it was packed.

        Raises:
            RunError: it is damaged, or something else.
        """
        try:
            if not isinstance(body, bytes):
                raise ValueError("a body is no bytes")
            return kind.model_validate_json(unpack(body))
        except (ValueError, RecursionError) as error:
            why = "of another shape" if isinstance(error, ValidationError) else str(error)
            raise self._damaged(f"a {kind.__name__}: {why}") from None

    def _damaged(self, why: str) -> RunError:
        return RunError(
            f"{self._path} is damaged ({why}); move it away and run again: what is in the reply cache is not paid for "
            f"twice"
        )

    def _first(self, query: sa.Select[Any]) -> Any:
        values = self._scalars(query)
        return values[0] if values else None


_EXPLANATION_KEY = ["dictionary", "feature", "design", "explainer"]


def _feature(feature: FeatureId) -> dict[str, object]:
    return {"dictionary": feature.dictionary, "feature": feature.index}


def _is(table: sa.Table, feature: FeatureId) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.dictionary == feature.dictionary, table.c.feature == feature.index


def _has(table: sa.Table, key: ScoreKey) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[name] == value for name, value in key._asdict().items())


def _pack(record: Record) -> bytes:
    return zlib.compress(record.model_dump_json().encode(), 1)


def _outcome(row: sa.Row[Any]) -> Outcome:
    if row.kind == "failed":
        usage = Usage.model_validate_json(row.usage) if row.usage else Usage()
        return Failed(stage=row.stage, reason=row.reason, message=row.message, attempts=row.attempts, usage=usage)
    return Skipped(reason=row.reason) if row.kind == "skipped" else Done()


def _on_connect(connection: Any, _: object) -> None:
    """Leave transactions to SQLAlchemy (sqlite3 would commit around DDL), and sync every commit to disk."""
    connection.isolation_level = None
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")


def _on_connect_to_read(connection: Any, _: object) -> None:
    connection.isolation_level = None


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("begin")
