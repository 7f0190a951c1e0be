"""Named factories: of this package, of other packages' entry points, and by Python path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, get_type_hints

from ibrl_torchrl.errors import UsageError, brief, unknown_name

ProductT = TypeVar("ProductT")


class Registry(Generic[ProductT]):
    """Named factories of one kind of object.

    A name is looked up among those of this package, then among the entry points that other packages
    declare in ``group``. A Python path ``"module:name"`` needs no declaration: its module is
    imported from where Python finds it, so not from the working directory. Since such a path may
    come from a run folder of unknown origin, what it names must be a class of the product's type,
    or a function annotated to return it; nothing else is called.

    Args:
        kind: kind of the name, for messages, such as ``"suite"``.
        group: group of entry points, such as ``"ibrl_torchrl.suites"``.
        product: type that the factories return.
        factories: factories of this package by name.

    Example:
        >>> from fractions import Fraction
        >>> numbers = Registry("number", "my_package.numbers", object, {"half": lambda: 0.5})
        >>> numbers["half"](), numbers["fractions:Fraction"] is Fraction
        (0.5, True)
    """

    def __init__(
        self,
        kind: str,
        group: str,
        product: type[ProductT],
        factories: Mapping[str, Callable[..., ProductT]],
    ) -> None:
        self._kind = kind
        self._group = group
        self._product = product
        self._factories = dict(factories)

    def names(self) -> list[str]:
        """All names, sorted; of Python paths there is no list."""
        others = entry_points(group=self._group)
        return sorted({*self._factories, *(point.name for point in others)})

    def __getitem__(self, name: str) -> Callable[..., ProductT]:
        """Factory by its name or Python path.

        Raises:
            UsageError: there is none, or its package cannot be imported.
        """
        if ":" in name:
            return self._by_path(name)
        if name in self._factories:
            return self._factories[name]
        for point in entry_points(group=self._group, name=name):
            try:
                return point.load()
            except (AttributeError, ImportError) as error:
                raise UsageError(
                    f"{self._kind} {name!r}: its entry point {point.value} cannot be loaded "
                    f"({brief(error)}); install the package again"
                ) from error
        raise unknown_name(self._kind, name, self.names())

    def _by_path(self, path: str) -> Callable[..., ProductT]:
        module, _, name = path.partition(":")
        try:
            factory: Any = self._module(module, path)
            for part in name.split("."):
                factory = getattr(factory, part)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{self._kind} {path!r}: there is no module {error.name}; install it, or set "
                "PYTHONPATH to its folder"
            ) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(
                f"{self._kind} {path!r}: {brief(error)}; write MODULE:NAME of a class or function"
            ) from error
        if not _returns(factory, self._product):
            product = self._product.__name__
            raise UsageError(
                f"{self._kind} {path!r}: must be a subclass of {product} or a function annotated "
                f"to return one; write def {name.rpartition('.')[2]}(...) -> {product}"
            )
        return factory

    def _module(self, name: str, path: str) -> ModuleType:
        """Module of a Python path; whatever else its code raises is the user's to correct."""
        if not all(name.split(".")):
            raise ValueError(f"{name!r} is no name of a module")
        try:
            return import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                raise
            raise UsageError(
                f"{self._kind} {path!r}: {name} raised {type(error).__name__}: {brief(error)} "
                "while it was imported; correct the module, or install what it needs"
            ) from error


def _returns(factory: Any, product: type) -> bool:
    """Whether a class, or the return annotation of a function, is a subclass of ``product``."""
    result = factory
    if not isinstance(factory, type):
        try:
            result = get_type_hints(factory).get("return")
        except (NameError, TypeError):  # of names for type checkers alone; no function
            return False
    return isinstance(result, type) and issubclass(result, product)
