"""What is closed once, by `close()` or at the end of a `with` block; knows no kind of handle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from .errors import ClosedError

_Self = TypeVar("_Self", bound="Closing")


class Closing(ABC):
    """Base of what a `with` block closes."""

    @abstractmethod
    def close(self) -> None:
        """Frees what it holds. Closing twice is allowed."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Handle(Closing):
    """Owns a native pointer, `_handle`: None before it is made and after it is freed."""

    _KIND: ClassVar[str]
    _handle: Any = None

    @abstractmethod
    def _free(self, handle: Any) -> None:
        """Frees the native object."""

    @property
    def handle(self) -> Any:
        """The native pointer. Raises ClosedError after close()."""
        if self._handle is None:
            raise ClosedError(f"the {self._KIND} is closed")
        return self._handle

    def close(self) -> None:
        """Frees the native memory. Closing twice is allowed."""
        if self._handle is not None:
            self._free(self._handle)
            self._handle = None
