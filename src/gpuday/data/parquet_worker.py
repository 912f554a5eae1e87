"""Run as a script by `records.read_parquet`: one string column of a parquet file to standard output.

Every value is an 8-byte little-endian length and its UTF-8 bytes; length -1 is a null. Imports nothing of the project,
so that starting it costs little. Faults are one line on standard error and exit code 1. With `any` behind the column its
values may be numbers, dates or truths as well, written as text. With `names` in place of a column the columns' names are
written, with `flat` the names of those whose values are no lists, maps or structures.
"""

import contextlib
import resource
import struct
import sys
from typing import Any, BinaryIO

MAX_MEMORY = 768 << 20  # a page or a dictionary that decodes to more is refused by the allocator
_READ = 1 << 20  # bytes of a column that are read from the file at a time
_ROWS = 64  # in a batch, whose values exist at once
_MESSAGE = 1000  # characters; the pipe holds them, so that nobody has to read them for this to end


def main(path: str, kind: str, column: str = "") -> None:
    """Write the values of `column`, or of the only string column where there is no such name (`text`); see above for the
    other kinds."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit("pyarrow is not installed; install it, or give the text as jsonl")
    limit_memory()
    # The other allocators reserve memory by the gigabyte; threads have stacks that count as much.
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    copy(pa, pq, path, sys.stdout.buffer, kind, column)


def limit_memory() -> None:
    """Let this process have at most `MAX_MEMORY` of data."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def copy(pa: Any, pq: Any, path: str, out: BinaryIO, kind: str, column: str) -> None:
    """Write what is asked of one file; leaves by SystemExit with one line for any fault of the file."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ)
        with contextlib.closing(file):
            if kind in ("names", "flat"):
                fields = (f for f in file.schema_arrow if kind == "names" or not pa.types.is_nested(f.type))
                names = (field.name.encode() for field in fields)
                out.writelines(struct.pack("<q", len(name)) + name for name in names)
                return
            exact = kind == "any"
            chosen = column if exact else choose(pa, file.schema_arrow, column)
            # A batch at a time, whose pages are read through a buffer: memory follows neither the size of the file nor
            # that of a row group, which by default has a million rows. Without the buffer its column is read at once.
            for batch in file.iter_batches(batch_size=_ROWS, columns=[chosen], use_threads=False):
                values = batch.column(0)
                if exact or pa.types.is_dictionary(values.type):
                    values = values.cast(pa.large_string())
                for value in values.cast(pa.large_binary()):
                    buffer = value.as_buffer()  # not a copy
                    out.write(struct.pack("<q", -1 if buffer is None else buffer.size))
                    if buffer is not None:
                        out.write(buffer)
        out.flush()
    except MemoryError:
        sys.exit(f"it needs more than {MAX_MEMORY >> 20} MiB of memory; write it with smaller pages and row groups")
    except Exception as error:  # noqa: BLE001 - the library lets many kinds through for a file that is damaged
        raise SystemExit(" ".join(str(error).split())[:_MESSAGE] or type(error).__name__) from None


def choose(pa: Any, schema: Any, column: str) -> str:
    """The column to read; leaves by SystemExit when it is not clear."""

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def is_coded(kind: Any) -> bool:
        return bool(pa.types.is_dictionary(kind)) and is_text(kind.value_type)

    plain = [field.name for field in schema if is_text(field.type)]
    # A dictionary says that there are few values: languages, sites, licences.
    coded = [field.name for field in schema if is_coded(field.type)]
    if (plain + coded).count(column) == 1:
        return column
    strings = plain or coded
    if len(strings) != 1:
        names = f"its string columns are: {', '.join(strings)[:_MESSAGE]}" if strings else "it has none"
        sys.exit(f"no string column {column!r}; {names}")
    return str(strings[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
