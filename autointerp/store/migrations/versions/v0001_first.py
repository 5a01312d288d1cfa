"""Records, explanations, scores, simulations and outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable)


def _feature() -> tuple[sa.Column[str], sa.Column[int]]:
    return _text("dictionary"), sa.Column("feature", sa.Integer, nullable=False)


def _body() -> sa.Column[bytes]:
    return sa.Column("body", sa.LargeBinary, nullable=False)


def upgrade() -> None:
    """Make the five tables."""
    op.create_table(
        "records",
        *_feature(),
        _text("design"),
        _text("digest"),
        _body(),
        sa.PrimaryKeyConstraint("dictionary", "feature", "design"),
    )
    op.create_table(
        "explanations",
        sa.Column("id", sa.Integer, primary_key=True),
        *_feature(),
        *(_text(name) for name in ("design", "explainer", "author", "text")),
        _text("prompt_digest", nullable=True),
        _text("examples_digest"),
        _body(),
        sa.UniqueConstraint("dictionary", "feature", "design", "explainer"),
    )
    op.create_table(
        "scores",
        *_feature(),
        *(_text(name) for name in ("protocol", "explainer", "simulator")),
        sa.Column("explanation", sa.Integer, nullable=False),
        sa.Column("spearman", sa.Float),
        _text("undefined", nullable=True),
        *(sa.Column(name, sa.Float) for name in ("low", "high", "lookup", "shuffled")),
        _body(),
        sa.PrimaryKeyConstraint("dictionary", "feature", "protocol", "explainer", "simulator"),
    )
    op.create_table(
        "simulations",
        *_feature(),
        *(_text(name) for name in ("protocol", "explainer", "simulator", "control")),
        _body(),
        sa.PrimaryKeyConstraint("dictionary", "feature", "protocol", "explainer", "simulator", "control"),
    )
    op.create_table(
        "outcomes",
        *_feature(),
        _text("step"),
        _text("kind"),
        *(_text(name, nullable=True) for name in ("stage", "reason", "message")),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("dictionary", "feature", "step"),
    )
