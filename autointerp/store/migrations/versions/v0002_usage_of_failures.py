"""What failed steps cost."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; steps that failed before it cost what nobody wrote down."""
    op.add_column("outcomes", sa.Column("usage", sa.String))
