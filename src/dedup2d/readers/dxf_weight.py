"""
How many entities a layout comes to with all block references taken apart, without doing so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ezdxf.document import Drawing
from ezdxf.entities.dxfentity import DXFEntity
from ezdxf.entities.insert import Insert

__all__ = ["block_weights", "weigh"]


def block_weights(document: Drawing) -> Mapping[str, int]:
    """
    Count the entities of each block by name, those of the blocks within it included.

    Ten levels of ten references are ten thousand million entities: to draw until the limit is met would
    take half a minute. A block within itself counts once, as it is drawn.
    """
    contents = {block.name.lower(): list(block) for block in document.blocks}
    weights: dict[str, int] = {}
    for name in contents:
        _weigh_block(name, contents, weights)
    return weights


def _weigh_block(name: str, contents: Mapping[str, Sequence[DXFEntity]], weights: dict[str, int]) -> None:
    """Walk the blocks inside first, without recursion: nesting may be as deep as the file likes."""
    stack = [name]
    while stack:
        block = stack[-1]
        weights.setdefault(block, 0)
        inner = [
            other for other in _references(contents[block]) if other in contents and other not in weights
        ]
        if inner:
            stack.extend(inner)
        else:
            stack.pop()
            weights[block] = weigh(contents[block], weights)


def _references(entities: Iterable[DXFEntity]) -> set[str]:
    return {str(entity.dxf.name).lower() for entity in entities if isinstance(entity, Insert)}


def weigh(entities: Iterable[DXFEntity], weights: Mapping[str, int]) -> int:
    """Count entities, each block reference with what it brings, as often as its rows and columns say."""
    return sum(
        max(1, entity.mcount) * (1 + weights.get(str(entity.dxf.name).lower(), 0))
        if isinstance(entity, Insert)
        else 1
        for entity in entities
    )
