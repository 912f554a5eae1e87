"""Run as a script by `records.read_parquet`: one string column of a parquet file to standard output.

Every value is an 8-byte little-endian length and its UTF-8 bytes; length -1 is a null. Imports nothing of the project,
so that starting it costs little. Faults are one line on standard error and exit code 1.
"""

import struct
import sys


def main(path: str, column: str) -> None:
    """Write the values of `column`, or of the only string column where there is no such name."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit("pyarrow is not installed; install it, or give the text as jsonl")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        strings = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        if column not in strings:
            if len(strings) != 1:
                sys.exit(f"no string column {column!r}; its string columns are: {', '.join(strings) or 'none'}")
            column = strings[0]
        out = sys.stdout.buffer
        # Batches inside one row group at a time: memory does not follow the size of the file.
        for batch in file.iter_batches(batch_size=256, columns=[column]):
            for value in batch.column(0).cast(pa.large_binary()).to_pylist():
                out.write(struct.pack("<q", -1) if value is None else struct.pack("<q", len(value)) + value)
        out.flush()
    except (pa.ArrowException, OSError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
