"""The bare records that a run was made of: kept whole, under a digest that tells when they were changed.

A run's folder and text flow in, text flows out. Knows no record.
"""

from autointerp.errors import RunError, UsageError
from autointerp.provenance import digest_bytes, write_atomically
from autointerp.store.folder import RunFolder

_NOTE = "records"


def keep_records(folder: RunFolder, text: str) -> None:
    """Keep the records that a run is made of; where they cannot be kept, nothing of a new run stays.

    Raises:
        UsageError: the folder holds others.
        OSError: the disk says no.
    """
    try:
        if folder.records.is_file() and read_records(folder) != text:
            raise UsageError(f"{folder.path} holds a run of other records; choose another --out")
        write_atomically(folder.records, text)
        folder.write_note(_NOTE, {"digest": digest_bytes([text.encode()])})
    except OSError:
        if not folder.records.is_file():
            folder.forget()
        raise


def read_records(folder: RunFolder) -> str:
    """The records as they were kept; those of a run that was imported before there was a digest are taken as they are.

    Raises:
        UsageError: there are none.
        RunError: they were changed, or are damaged.
    """
    again = "import the records again, into another --out"
    try:
        content = folder.records.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{folder.path} holds no records, as its import did not come to its end; {again}") from None
    kept = folder.read_note(_NOTE).get("digest")
    if kept is not None and kept != digest_bytes([content]):
        raise RunError(f"{folder.records} is not what was imported: it was changed or damaged since; {again}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{folder.records} is damaged (byte {error.start} is no UTF-8); {again}") from None
