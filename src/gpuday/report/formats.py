"""Numbers as a person reads them: durations, counts, shares, budgets. Every function takes any value at all.

What a run directory holds may have been written by an older version or by hand. A value that is not the number that
was expected is shown as the text it is; a missing one is a dash.
"""

import math
import re

MISSING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
LONGEST = 4000  # characters of one text: a page must open even where a note holds a whole corpus
# Not printable in HTML, or able to reorder the text around them: C0 and C1 controls, surrogates, bidi overrides.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_SCALES = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def is_number(value: object) -> bool:
    """Whether a JSON value is a number that can be drawn: no bool, no NaN, no infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_or(value: object, default: float) -> float:
    """The value as a float where it is a number, else the default."""
    return float(value) if isinstance(value, int | float) and is_number(value) else default


def clean(value: str) -> str:
    """A text without characters that no page can show, cut to a length that every page can hold."""
    cut = value if len(value) <= LONGEST else f"{value[:LONGEST]} \N{HORIZONTAL ELLIPSIS} ({len(value):,} characters)"
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", cut)


def text(value: object) -> str:
    """Any value on one line; a missing one is a dash."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{clean(str(k))}: {text(v)}" for k, v in list(value.items())[:50])
    if isinstance(value, list | tuple):
        return ", ".join(text(v) for v in value[:50])
    return clean(str(value))


def count(value: object) -> str:
    """`1,490`."""
    return f"{float(value):,.0f}" if isinstance(value, int | float) and is_number(value) else text(value)


def decimals(value: object, digits: int = 3) -> str:
    """`3.421`."""
    return f"{value:.{digits}f}" if is_number(value) else text(value)


def share(value: object, digits: int = 1) -> str:
    """`93.1%` of a fraction of one."""
    return f"{value:.{digits}%}" if is_number(value) else text(value)


def scaled(value: object, unit: str = "") -> str:
    """`6.12 M`, with the unit behind the prefix: `1.30 PFLOP`."""
    if not isinstance(value, int | float) or not is_number(value):
        return text(value)
    factor, prefix = next(((f, p) for f, p in _SCALES if abs(value) >= f), (1.0, ""))
    digits = f"{value / factor:.3g}" if factor > 1 or value % 1 else f"{value:.0f}"
    # Three digits such as 1e+03 appear when rounding reaches the next prefix.
    digits = f"{value / factor:.0f}" if "e" in digits else digits
    return f"{digits}{THIN}{prefix}{unit}".rstrip(THIN)


def duration(value: object) -> str:
    """`0.8 s`, `9 min 58 s`, `23 h 59 min`."""
    if not isinstance(value, int | float) or not is_number(value):
        return text(value)
    if abs(value) < 59.95:
        return f"{value:.1f}{THIN}s" if value % 1 else f"{value:.0f}{THIN}s"
    sign, whole = "-" if value < 0 else "", round(abs(value))
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (seconds if hours == 0 else 0, "s")]
    return sign + "\N{NO-BREAK SPACE}".join(f"{n}{THIN}{unit}" for n, unit in parts if n)


def budget(value: object) -> str:
    """A budget as the recipe stores it, `{"amount": 600, "unit": "seconds"}`, or as the text the user gave."""
    if not isinstance(value, dict):
        return text(value)
    amount, unit = value.get("amount"), value.get("unit")
    if unit == "seconds":
        return duration(amount)
    if unit == "flops":
        return scaled(amount, "FLOP")
    return f"{scaled(amount) if unit == 'tokens' else count(amount)} {text(unit)}"


def energy(value: object) -> str:
    """Joules with the kilowatt-hours that a bill shows."""
    if not isinstance(value, int | float) or not is_number(value):
        return text(value)
    return f"{scaled(value, 'J')} ({value / 3.6e6:.3g}{THIN}kWh)"


def plain(value: str) -> str:
    """With ordinary spaces, for a terminal and for JSON."""
    return value.replace(THIN, " ").replace("\N{NO-BREAK SPACE}", " ")


def percent(share: float) -> float:
    """A share of one as a width for the style sheet, kept within the bar."""
    return round(100 * min(1.0, max(0.0, share)), 2)
