"""The public names: few, documented, and where they are said to be."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import dedup2d
import dedup2d_http


def modules() -> list[str]:
    found = []
    for package in (dedup2d, dedup2d_http):
        found += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.rpartition(".")[2].startswith("_")]


def test_the_public_surface_is_this() -> None:
    """If this fails, a public name came or went: say so in the changelog."""
    assert sorted(dedup2d.__all__) == [
        "AddResult",
        "Area",
        "Comparison",
        "Dedup2D",
        "Dedup2DError",
        "DiffRegion",
        "Drawing",
        "Job",
        "JobStatus",
        "Match",
        "Mode",
        "Relation",
        "SearchParams",
        "SearchResult",
        "ServiceOptions",
        "Verdict",
    ]


@pytest.mark.parametrize("name", modules())
def test_all_names_exist_and_the_module_is_documented(name: str) -> None:
    """If this fails, `__all__` names something that is not there, or a module does not say what it is for."""
    module = importlib.import_module(name)

    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


def documented(module: ModuleType) -> list[object]:
    return [getattr(module, name) for name in dedup2d.__all__]


def test_public_classes_and_their_methods_have_docstrings() -> None:
    """If this fails, `help()` of something public says nothing."""
    for thing in documented(dedup2d):
        assert isinstance(thing, type)
        assert thing.__doc__
        if thing.__module__ == "dedup2d.service":
            methods = [m for name, m in vars(thing).items() if not name.startswith("_") and callable(m)]
            assert all(method.__doc__ for method in methods)
