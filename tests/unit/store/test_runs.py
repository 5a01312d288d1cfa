"""The run's store: migrations, steps that are all or nothing, and what comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from autointerp.errors import RunError, UsageError
from autointerp.records import Done, Explanation, Failed, FeatureId, Simulation, Skipped
from autointerp.store import schema
from autointerp.store.migrate import NEWEST
from autointerp.store.runs import RunStore, ScoreKey
from tests.unit.interpret.planted import make_example, make_record
from tests.unit.interpret.test_score import feature_score

KEY = ScoreKey("simulate", "lookup", "lookup")
FEATURE = FeatureId(dictionary="d", index=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[RunStore]:
    opened = RunStore(path)
    yield opened
    opened.close()


def explanation(index: int = 3, text: str = "about food") -> Explanation:
    return Explanation(
        feature=FeatureId(dictionary="d", index=index), text=text, author="a", method="lookup", examples_digest="e"
    )


def test_migrations_from_nothing_give_the_declared_tables(store: RunStore, path: Path) -> None:
    """Tables that differ from their declaration fail on a user's old run, not here."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def test_a_store_opens_again_with_what_it_held(path: Path) -> None:
    """Opening must neither migrate twice nor lose rows."""
    first = RunStore(path)
    record = make_record(explain=[make_example(["a\\t", "b"], [0.1, 0.2], "doc")], index=3)
    with first.step():
        first.put_record(record)
        first.put_explanation(explanation(), record.design, "lookup")
        first.put_outcome(FEATURE, "s", Failed(stage="explain", reason="refused", message="no", attempts=3))
        first.put_outcome(FeatureId(dictionary="d", index=1), "s", Skipped(reason="dead"))
        first.put_outcome(FeatureId(dictionary="d", index=2), "s", Done())
    first.close()
    again = RunStore(path)
    assert again.record(FEATURE, record.design) == record
    assert again.record(FEATURE, "another") is None
    own = again.explanation(FEATURE, record.design, "lookup")
    assert own is not None
    assert own.explanation == explanation()
    assert again.outcomes("d", "s") == {
        1: Skipped(reason="dead"),
        2: Done(),
        3: Failed(stage="explain", reason="refused", message="no", attempts=3),
    }
    assert again.outcomes("other", "s") == {}
    again.close()


def test_a_newer_store_is_refused_and_left_alone(path: Path) -> None:
    """An old version writing into a newer store would damage it."""
    RunStore(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(UsageError, match=r"newer autointerp \(store revision 9999\)"):
        RunStore(path)
    assert NEWEST < "9999"


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\x00" + b"\x00" * 50])
def test_a_damaged_store_is_one_sentence(path: Path, content: bytes) -> None:
    """sqlite3's own error does not name the file."""
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"store\.sqlite is not a readable store"):
        RunStore(path)


@pytest.mark.parametrize("name", ["a?mode=ro", "50%", "a#b", "a b"])
def test_any_folder_name_holds_a_store(tmp_path: Path, name: str) -> None:
    """A question mark in the path was read as the database URL's query."""
    folder = tmp_path / name
    folder.mkdir()
    RunStore(folder / "store.sqlite").close()
    assert (folder / "store.sqlite").is_file()


def test_a_step_that_fails_leaves_nothing(store: RunStore) -> None:
    """A score without its outcome, or the other way round, would be computed or missed for ever."""

    class PowerCut(Exception):  # noqa: N818 - a signal, not an error
        pass

    def cut() -> None:
        with store.step():
            store.put_score(feature_score(3, 0.5), 1, KEY, {"explanation": Simulation(levels=((1,),))})
            store.put_outcome(FEATURE, "s", Done())
            raise PowerCut

    with pytest.raises(PowerCut):
        cut()
    assert store.scores("d", KEY) == []
    assert store.outcomes("d", "s") == {}
    assert store.simulation(FEATURE, KEY, "explanation") is None
    with store.step():
        store.put_outcome(FEATURE, "s", Done())
    assert store.outcomes("d", "s") == {3: Done()}


def test_scores_come_back_by_feature_and_key(store: RunStore) -> None:
    """A score of one explainer must not be taken for another's; the order is that of features."""
    simulation = Simulation(levels=((1, 2), None), failures=((1, "outside_grammar"),))
    with store.step():
        for index in (7, 2):
            store.put_score(feature_score(index, index / 10), 1, KEY, {"explanation": simulation})
        store.put_score(feature_score(2, 0.9), 1, KEY._replace(explainer="other"), {})
    assert [s.feature.index for s in store.scores("d", KEY)] == [2, 7]
    assert [s.spearman.value for s in store.scores("d", KEY._replace(explainer="other"))] == [0.9]
    assert store.simulation(FeatureId(dictionary="d", index=7), KEY, "explanation") == simulation
    assert store.simulation(FeatureId(dictionary="d", index=7), KEY, "shuffled") is None


def test_an_explanation_is_replaced_and_not_doubled(store: RunStore) -> None:
    """Two rows for one feature would make `explained` and the shuffled partners ambiguous."""
    with store.step():
        store.put_explanation(explanation(text="first"), "design", "lookup")
        store.put_explanation(explanation(text="second"), "design", "lookup")
        store.put_explanation(explanation(1), "design", "lookup")
    own = store.explanation(FEATURE, "design", "lookup")
    assert own is not None
    assert own.explanation.text == "second"
    assert store.explained("d", "design", "lookup") == [1, 3]
