"""The tables of a run's store, as the newest migration leaves them.

Declarations only; `store.runs` reads and writes them, `store/migrations` makes them.
"""

from sqlalchemy import (
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("dictionary", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("design", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("dictionary", "feature", "design"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dictionary", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("design", String, nullable=False),
    Column("explainer", String, nullable=False),
    Column("author", String, nullable=False),
    Column("text", String, nullable=False),
    Column("prompt_digest", String),
    Column("examples_digest", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("dictionary", "feature", "design", "explainer"),
)

scores = Table(
    "scores",
    metadata,
    Column("dictionary", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("protocol", String, nullable=False),
    Column("explainer", String, nullable=False),
    Column("simulator", String, nullable=False),
    Column("explanation", Integer, nullable=False),
    Column("spearman", Float),
    Column("undefined", String),
    Column("low", Float),
    Column("high", Float),
    Column("lookup", Float),
    Column("shuffled", Float),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("dictionary", "feature", "protocol", "explainer", "simulator"),
)

simulations = Table(
    "simulations",
    metadata,
    Column("dictionary", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("protocol", String, nullable=False),
    Column("explainer", String, nullable=False),
    Column("simulator", String, nullable=False),
    Column("control", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("dictionary", "feature", "protocol", "explainer", "simulator", "control"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("dictionary", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("step", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("stage", String),
    Column("reason", String),
    Column("message", String),
    Column("attempts", Integer, nullable=False),
    Column("usage", String),
    PrimaryKeyConstraint("dictionary", "feature", "step"),
)
