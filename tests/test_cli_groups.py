"""Which drawings a scan puts together."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dedup2d.cli.groups import Group, Link, find_groups
from dedup2d.types import Drawing, Relation


def drawing(name: str, file_hash: str | None = None) -> Drawing:
    return Drawing(
        drawing_id=name,
        file_hash=file_hash or f"hash of {name}",
        file_name=f"{name}.dxf",
        page=1,
        format="dxf",
        width=100,
        height=100,
        created_at=0.0,
        source=f"/drawings/{name}.dxf",
    )


def link(a: str, b: str, relation: Relation = Relation.IDENTICAL, similarity: float = 0.99) -> Link:
    return Link(a=a, b=b, relation=relation, similarity=similarity)


def names(groups: list[Group]) -> list[list[str]]:
    return [[one.drawing_id for one in group.drawings] for group in groups]


def test_copies_are_a_group_without_any_search() -> None:
    """If this fails, the plainest duplicates of all are not reported."""
    groups = find_groups([drawing("a", "same"), drawing("b", "same"), drawing("c")], [])

    assert names(groups) == [["a", "b"]]
    assert Relation.EXACT is groups[0].kind


def test_the_reference_is_what_is_nearest_to_all() -> None:
    """If this fails, a group is shown against an outlier."""
    links = [link("a", "b", similarity=0.9), link("b", "c", similarity=0.99)]

    assert names(find_groups(map(drawing, "abc"), links)) == [["b", "c", "a"]]


def test_the_reference_is_the_simplest_name_among_the_nearest() -> None:
    """If this fails, a part is shown against its scan, which happens to be as near to all."""
    links = [link("a", "b", similarity=0.9), link("b", "c", similarity=0.99), link("a", "c", similarity=0.85)]

    assert names(find_groups(map(drawing, "abc"), links)) == [["a", "b", "c"]]


def test_a_chain_of_strangers_is_no_group() -> None:
    """If this fails, half of a company's drawings end in one group, each like the next."""
    chain = [link(a, b, Relation.REVISION, 0.9) for a, b in zip("abcdef", "bcdef", strict=False)]

    groups = find_groups(map(drawing, "abcdef"), chain)

    assert all(len(group.drawings) <= 3 for group in groups)


def test_two_that_are_linked_once_by_a_near_relation_stay_together() -> None:
    """If this fails, weak links are taken first and tear apart what is the same drawing."""
    links = [
        link("a", "b", Relation.REVISION, 0.99),
        link("c", "d", Relation.REVISION, 0.99),
        link("b", "c", Relation.IDENTICAL, 0.96),
    ]

    groups = find_groups(map(drawing, "abcd"), links)

    assert any({"b", "c"} <= set(one) for one in names(groups))


def test_many_copies_do_not_outvote_a_link() -> None:
    """If this fails, a drawing with a hundred copies never gets its revision into its group."""
    copies = [drawing(f"copy{number}", "same") for number in range(100)]

    groups = find_groups([*copies, drawing("later")], [link("copy7", "later", Relation.REVISION, 0.9)])

    assert len(groups) == 1
    assert len(groups[0].drawings) == 101
    assert Relation.REVISION is groups[0].kind


def test_a_copy_of_a_member_is_told_as_its_copy() -> None:
    """If this fails, two files with the same bytes look like two separate revisions."""
    drawings = [drawing("a"), drawing("b", "same"), drawing("bcopy", "same")]

    (group,) = find_groups(drawings, [link("a", "b", Relation.REVISION, 0.9)])

    assert [(one.drawing.drawing_id, one.relation, one.other.drawing_id) for one in group.members] == [
        ("b", Relation.REVISION, "a"),
        ("bcopy", Relation.EXACT, "b"),
    ]


def test_a_member_that_is_not_linked_to_the_reference_says_whom_it_is_like() -> None:
    """If this fails, a report claims a similarity that nobody measured."""
    links = [link("a", "b"), link("b", "c", similarity=0.97)]

    (group,) = find_groups(map(drawing, "abc"), links)

    assert {("a", "b", 0.99), ("c", "b", 0.97)} == {
        (one.drawing.drawing_id, one.other.drawing_id, one.similarity) for one in group.members
    }


def test_links_to_drawings_that_are_gone_are_ignored() -> None:
    """If this fails, a drawing removed during a scan crashes it."""
    assert find_groups([drawing("a")], [link("a", "gone")]) == []


ids = st.sampled_from("abcdefgh")
all_links = st.lists(
    st.builds(link, ids, ids, st.sampled_from(list(Relation)), st.sampled_from([0.8, 0.9, 0.95, 1.0])),
    max_size=20,
)


@given(all_links, st.lists(st.sampled_from("xyz"), min_size=8, max_size=8), st.randoms())
def test_groups_do_not_overlap_and_do_not_depend_on_the_order(
    links: list[Link], hashes: list[str], rng: random.Random
) -> None:
    """If this fails, a drawing is reported twice, or two scans of one folder disagree."""
    drawings = [drawing(name, file_hash) for name, file_hash in zip("abcdefgh", hashes, strict=True)]
    groups = find_groups(drawings, links)
    members = [one for group in names(groups) for one in group]
    assert len(members) == len(set(members))

    shuffled = rng.sample(drawings, len(drawings)), rng.sample(links, len(links))
    assert {frozenset(group) for group in names(groups)} == {
        frozenset(group) for group in names(find_groups(*shuffled))
    }
    assert all(len(group) > 1 for group in names(groups))
