"""Looks into exported metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str) -> dict[Sample, float]:
    """Return the value of each sample by its name and labels."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(text: str, name: str, /, **labels: str) -> float | None:
    """Return the value of one sample, None if it is not there."""
    return samples(text).get((name, frozenset(labels.items())))


def total(text: str, name: str, /, **labels: str) -> float:
    """Return the sum over all samples of a name that have these labels."""
    wanted = set(labels.items())
    return sum(found for (each, given), found in samples(text).items() if each == name and wanted <= given)
