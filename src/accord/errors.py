"""Every error accord raises on purpose. Catch ``AccordError`` to catch them all.

    AccordError
    ├── ConfigError     a setting is unknown, out of range, or contradicts another
    ├── DataError       data is missing, empty, malformed, or has the wrong columns
    ├── StoreError      the workspace or its database is absent, locked, or fails its own proof
    ├── ModelError      a model cannot be used as asked (no eos, fresh head, wrong architecture)
    └── NumericsError   a number that must never be wrong is wrong (NaN reward, failed invariant)

A message says what happened, the value, and what to do. Nothing is lost when one is raised.
"""


class AccordError(Exception):
    """The root of accord's errors."""


class ConfigError(AccordError, ValueError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(AccordError, ValueError):
    """Data is missing, empty, malformed, or has the wrong columns."""


class StoreError(AccordError):
    """The workspace or its database is absent, locked, or fails its own proof."""


class ModelError(AccordError):
    """A model cannot be used as asked."""


class NumericsError(AccordError, ArithmeticError):
    """A number that must never be wrong is wrong."""
