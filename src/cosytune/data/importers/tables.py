"""CSV and TSV files with a header, such as Common Voice's, Coqui's metadata.csv or what a spreadsheet saves."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosytune.data.importers.fields import Row, accepted_columns, recognise_columns
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.importers.texts import first_line, open_text
from cosytune.errors import DataError

__all__ = ["TABLE_SUFFIXES", "read_table", "table_columns"]

TABLE_SUFFIXES = (".csv", ".tsv")

_DELIMITERS = ("\t", ",", ";", "|")


def table_columns(path: Path) -> dict[str, str]:
    """Our field -> column of a table; without "audio" if its first line is no header that is understood.

    Raises:
        DataError: the file cannot be read or is in another encoding.
    """
    return recognise_columns(_header(first_line(path)).columns)


def read_table(path: Path, speaker: str) -> Iterator[Entry]:
    """The rows of a table, read one by one.

    Args:
        path: a text file whose first line names the columns, separated by tabs, commas, semicolons or bars.
        speaker: label where a row has none.

    Raises:
        DataError: no column names the recordings, or (while it is read) the file is damaged.
    """
    header = _header(first_line(path))
    names = recognise_columns(header.columns)
    if "audio" not in names:
        raise DataError(
            f"{path} has the columns {', '.join(header.columns) or '(none)'}, and none of them is known to name the "
            f"recordings; rename them: {accepted_columns()}"
        )
    return _rows(path, header, names, speaker)


class _Header:
    """The first line of a table, cut at one delimiter."""

    def __init__(self, line: str, delimiter: str) -> None:
        # Tabs and bars separate texts that hold quotation marks of their own; commas need quoted cells.
        quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
        self.options: dict[str, Any] = {"delimiter": delimiter, "quoting": quoting}
        self.columns = [column.strip() for column in next(csv.reader(io.StringIO(line), **self.options), [])]


def _header(line: str) -> _Header:
    """The header at the delimiter that shows most of our fields, or else most columns."""
    headers = [_Header(line, delimiter) for delimiter in _DELIMITERS]
    return max(headers, key=lambda header: (len(recognise_columns(header.columns)), len(header.columns)))


def _rows(path: Path, header: _Header, names: dict[str, str], speaker: str) -> Iterator[Entry]:
    places = Places(path.parent)
    needed = 1 + max(header.columns.index(names[field]) for field in ("audio", "text") if field in names)
    with open_text(path) as lines:
        rows = csv.reader(lines, **header.options)
        begun = False
        while True:
            where = f"line {rows.line_num + 1} of {path.name}"
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise DataError(
                    f"{where} begins a cell that does not end ({error}): close the quotation mark, or save the table "
                    "with tabs"
                ) from error
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            if begun:
                yield _entry(cells, header, needed, Row({}, names, where), places, speaker)
            begun = True


def _entry(cells: list[str], header: _Header, needed: int, row: Row, places: Places, speaker: str) -> Entry:
    columns = header.columns
    if len(cells) < needed or any(cell.strip() for cell in cells[len(columns) :]):
        reason = f"not a row of this table: {row.where} has {len(cells)} cells, the header has {len(columns)}"
        return dropped(row.where, row.where, reason)
    unquote = header.options["quoting"] == csv.QUOTE_NONE
    values = {name: _unquoted(cell) if unquote else cell for name, cell in zip(columns, cells, strict=False)}
    return Row(values, row.names, row.where).entry(places, speaker)


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks that spreadsheets put around it; those of the text itself stay."""
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell
