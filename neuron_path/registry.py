"""Named, pluggable parts: a new scorer, search or model family is one file that registers itself here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from neuron_path.errors import NeuronPathError, unknown_name

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Maps names to the classes that a package's modules register under them.

    Args:
        kind: what the entries are, for error messages ("scorer").
        package: the package whose modules are imported, once, the first time a name is asked for.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, type[Any]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: make the class available under `name`, which it also gets as its attribute `name`."""

        def add(cls: C) -> C:
            cls.name = name
            self._entries[name] = cls
            return cls

        return add

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        self._discover()
        return iter(sorted(self._entries.items()))

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return [name for name, _ in self]

    def create(self, part: str | T, **options: object) -> T:
        """Make the named part with its options; an object that is one is taken as it is.

        Raises:
            NeuronPathError: no part has that name, it lacks one of the options, or a class stands for an object.
        """
        if isinstance(part, type):
            raise NeuronPathError(
                f"The {self.kind} is the class {part.__name__}; expected a name or an object of it: {part.__name__}()."
            )
        if not isinstance(part, str) and hasattr(part, "name"):
            return part
        self._discover()
        if not isinstance(part, str) or part not in self._entries:
            raise unknown_name(self.kind, str(part), self._entries)
        cls = self._entries[part]
        known = inspect.signature(cls).parameters
        for option in options:
            if option not in known:
                takes = ", ".join(known) or "none"
                raise NeuronPathError(f"The {self.kind} '{part}' has no option '{option}'. Its options: {takes}.")
        return cls(**options)

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._discovered = True
