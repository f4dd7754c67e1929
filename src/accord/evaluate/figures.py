"""Figures as people read them: a true minus sign, thin spaces between thousands."""

from __future__ import annotations


def number(value: float, digits: int = 3) -> str:
    """A figure with a true minus sign, thousands apart."""
    return f"{value:,.{digits}f}".replace("-", "−").replace(",", "\u202f")


def signed(value: float, digits: int = 3) -> str:
    """The same with its sign; what rounds to zero has none."""
    text = f"{value:+,.{digits}f}".replace(",", "\u202f")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text.replace("-", "−")


def count(value: int) -> str:
    """A count, thousands apart."""
    return number(value, 0)


def seconds(value: float) -> str:
    """A duration people read: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def between(low: float, high: float, digits: int = 3) -> str:
    """An interval of a difference: ``+0.10 to +0.19``."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def enough_digits(digits: int, *values: float) -> int:
    """``digits``, or one more where a value would round to zero that is not zero."""
    return digits + any(value != 0 and float(f"{value:.{digits}f}") == 0 for value in values)
