"""Brings a store to the newest revision when it is opened.

A connection flows in; `store/migrations` holds the steps, which are only ever appended to.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from autointerp.errors import UsageError

NEWEST = "0002"


def migrate(connection: sa.Connection, path: Path) -> None:
    """Run the missing migrations, all or none.

    Raises:
        UsageError: the store was made by a later version.
    """
    with connection.begin():
        known = sa.inspect(connection).has_table("alembic_version")
        version = connection.execute(sa.text("select version_num from alembic_version")).scalar() if known else None
    if version == NEWEST:
        return
    if version is not None and str(version) > NEWEST:
        raise UsageError(f"{path} was made by a newer autointerp (store revision {version}); upgrade to open it")
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
