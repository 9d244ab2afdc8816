"""One small registry for every family of things that users extend: formats, layer readers, operator writers, passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from niudao.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to things, filled by decorators and by plug-ins.

    Args:
        kind: The singular word for an entry, used in messages ("format").
        entry_points: Entry-point group whose modules are imported, once, when a name is not found at first
            or when the names are listed. Importing such a module registers its entries.

    Example:
        >>> shapes: Registry[type] = Registry("shape")
        >>> @shapes.register("square", "quadrat")
        ... class Square: ...
        >>> shapes["quadrat"] is Square
        True
    """

    def __init__(self, kind: str, entry_points: str | None = None) -> None:
        self.kind = kind
        self._entry_points = entry_points
        self._entries: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator that files its argument under every given name; a name can be taken once."""

        def decorate(entry: T) -> T:
            for name in names:
                if name in self._entries and self._entries[name] is not entry:
                    raise ValueError(f"two entries claim the {self.kind} {name!r}")
                self._entries[name] = entry
            return entry

        return decorate

    def _load_plugins(self) -> None:
        group, self._entry_points = self._entry_points, None
        if group:
            from importlib.metadata import entry_points

            for point in entry_points(group=group):
                point.load()

    def get(self, name: str) -> T | None:
        """The entry of that name, or None."""
        if name not in self._entries:
            self._load_plugins()
        return self._entries.get(name)

    def __getitem__(self, name: str) -> T:
        entry = self.get(name)
        if entry is None:
            raise UnknownName(self.kind, name, self._entries)
        return entry

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Name and entry, sorted by name."""
        return [(name, self._entries[name]) for name in self]
