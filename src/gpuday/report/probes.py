"""What was measured without fine-tuning: minimal pairs by phenomenon, pseudo-perplexity. Whatever the sections hold is shown:
single values as facts, tables of tables as tables."""

from dataclasses import dataclass
from typing import Any

from gpuday.report import formats, scores
from gpuday.report.load import RunRecord


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of equal columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One section of the summary's `probes`."""

    name: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]


def probes(record: RunRecord) -> list[Probe]:
    """Every probe that was made."""
    found = record.summary.get("probes")
    tables = found.items() if isinstance(found, dict) else ()
    return [_probe(str(name), values) for name, values in tables if isinstance(values, dict)]


def _probe(name: str, values: dict[str, Any]) -> Probe:
    nested = {str(key): value for key, value in values.items() if _is_table(value)}
    return Probe(
        name=formats.clean(name),
        facts=tuple((_words(str(key)), _fact(value)) for key, value in values.items() if str(key) not in nested),
        tables=tuple(_nested(_words(key), value) for key, value in nested.items()),
    )


def _is_table(value: Any) -> bool:
    """Whether a value is a table of tables or numbers, which a fact has no room for."""
    return (
        isinstance(value, dict)
        and not _is_interval(value)
        and any(isinstance(inner, dict | int | float) for inner in value.values())
    )


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and {"low", "high"} <= value.keys()


def _fact(value: Any) -> str:
    return _interval(value) if _is_interval(value) else formats.text(value)


def _interval(value: dict[str, Any]) -> str:
    """`8.120 to 9.450 (95%, percentile, 40 documents)`: how many were drawn from, where the method says of what."""
    method, comma, what = formats.text(value.get("method")).rpartition(", ")
    counted = {"method": f"{method}, {formats.count(value.get('n'))} {what}"} if comma and "n" in value else {}
    return scores.interval({**value, **counted})


def _nested(title: str, table: dict[str, Any]) -> Table:
    rows = {str(name): row if isinstance(row, dict) else {"value": row} for name, row in table.items()}
    columns = tuple(dict.fromkeys(str(key) for row in rows.values() for key in row))
    return Table(
        title=title,
        columns=tuple(_words(column) for column in columns),
        rows=tuple((_words(name), *(_cell(row.get(column)) for column in columns)) for name, row in rows.items()),
    )


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return _fact(value)
    return formats.decimals(value) if isinstance(value, float) else formats.count(value)


def _words(key: str) -> str:
    return formats.clean(key.replace("_", " "))
