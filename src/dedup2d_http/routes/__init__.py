"""All routes of the API."""

from __future__ import annotations

from dedup2d_http.routes import config, events, geometry, index, jobs, offers, operations, search
from dedup2d_http.routes.page import page_of
from dedup2d_http.routes.reference import references_of

__all__ = ["RESOURCES"]

_SERVICE = (
    *search.RESOURCES,
    *offers.RESOURCES,
    *jobs.RESOURCES,
    *events.RESOURCES,
    *index.RESOURCES,
    *config.RESOURCES,
    *geometry.RESOURCES,
    *operations.RESOURCES,
)
_PAGE = page_of(_SERVICE)
RESOURCES = (_PAGE, *_SERVICE, *references_of((_PAGE, *_SERVICE)))
