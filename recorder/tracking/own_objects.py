"""Which objects of the cache a bundle's tracking put there itself, over all its attempts: others it never takes out.

Noted beside the bundles, one line an object. A note that a crash lost keeps an object in the cache.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from recorder.bundle import layout

_PLACED, _KEPT, _FREED = "placed", "kept", "freed"


class OwnObjects:
    """The notes on the objects of the bundle in the folder `bundle`. Methods that note something raise OSError."""

    def __init__(self, bundle: Path) -> None:
        self._path = bundle.parent / layout.TRACKED / f"{bundle.name}.txt"
        self._placed: set[str] = set()
        self._kept: set[str] = set()
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            deed, _, name = line.partition(" ")
            self._follow(deed, name)

    def place(self, names: Collection[str]) -> None:
        """Note that these were not in the cache before."""
        self._note(_PLACED, set(names) - self._placed)

    def keep(self, names: Collection[str]) -> None:
        """Note that others may rely on these. From any thread."""
        self._note(_KEPT, set(names) - self._kept)

    def free(self, names: Collection[str]) -> None:
        """Note that these are out of the cache."""
        self._note(_FREED, names)

    def to_free(self, names: Collection[str]) -> set[str]:
        """Those of `names` that were put there for this bundle, and on which nobody else relies by the notes."""
        return set(names) & self._placed - self._kept

    def _note(self, deed: str, names: Collection[str]) -> None:
        if names:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write("".join(f"{deed} {name}\n" for name in sorted(names)))
            for name in names:
                self._follow(deed, name)

    def _follow(self, deed: str, name: str) -> None:
        if deed == _FREED:
            self._placed.discard(name)
        else:
            (self._kept if deed == _KEPT else self._placed).add(name)
