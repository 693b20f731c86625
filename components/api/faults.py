"""Errors that a program can catch: a package that is not installed, or a fault of the machine, as UserError."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def explaining() -> Iterator[None]:
    """Raise UserError, which says what to do, for a missing package and for faults of the machine, such as a full disk.

    Other errors pass unchanged.
    """
    try:
        yield
    except (ModuleNotFoundError, OSError) as error:
        from components.disk import machine_error
        from components.extras import missing_package

        explained = missing_package(error) if isinstance(error, ModuleNotFoundError) else machine_error(error)
        if explained is None:
            raise
        raise explained from error
