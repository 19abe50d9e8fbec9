"""Statistics of every frame as a Parquet file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from rtseg.errors import MissingExtra, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.regions.masks import Regions
from rtseg.sinks.base import Sink
from rtseg.sinks.stats import CsvStatsSink
from rtseg.system.atomic_files import failure_reason
from rtseg.system.part_file import PartFile

__all__ = ["ParquetStatsSink"]


class ParquetStatsSink(Sink):
    """Writes the rows of ``CsvStatsSink`` as Parquet.

    A Parquet file cannot be read before its end is written. During the run the rows are therefore in
    ``NAME.part.csv``, which a crash or a full disk leaves; at the end they become the Parquet file.
    """

    kind = "stats"
    needs_rendered = False

    def __init__(self, path: Path, spec: ModelSpec, *, regions: Regions | None = None, overwrite: bool = False) -> None:
        """Create the file for the rows; see ``StatsSink``.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise MissingExtra.for_feature("--stats FILE.parquet", "pyarrow", "parquet") from error
        self.name = f"statistics {path}"
        self._table = PartFile(path, self.name, overwrite=overwrite)
        self._rows = CsvStatsSink(path.with_suffix(".csv"), spec, regions=regions, overwrite=True)
        self._rows.name = self.name
        self._closed = False

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return "\n".join(filter(None, (self._table.notice, self._rows.notice)))

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write one row; see ``Sink``."""
        self._rows.write(frame, labels, rendered)
        self.written = self._rows.written

    def close(self) -> None:
        """Turn the rows into the Parquet file; see ``Sink``."""
        if self._closed:
            return
        self._closed = True
        rows = self._rows.keep_part()
        try:
            if rows is not None:
                _convert(rows, self._table.part)
                self._table.commit()
                rows.unlink()
        except OSError as error:
            reason = f"{failure_reason(error)}; {self.written} lines are kept in {rows}"
            raise SinkError(f"{self.name} ended, {reason}. Free some space or choose another path") from error
        finally:
            self._table.keep()


def _convert(rows: Path, table: Path) -> None:
    """Write the CSV file ``rows`` as the Parquet file ``table``, part by part."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    with rows.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
    types: dict[str, Any] = dict.fromkeys(names, pa.float64()) | {"index": pa.int64(), "name": pa.string()}
    convert = pa.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    with (
        pa.csv.open_csv(rows, convert_options=convert, parse_options=parse) as batches,
        pa.parquet.ParquetWriter(table, batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
