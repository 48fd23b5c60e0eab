"""
The guard against callbacks that are meant for the inside of the network (server-side request forgery).

`check_url` looks at a URL when it comes in; `connector` makes the connections that it is called over and
looks at every address again, in the moment it is dialled. `guard_url` and `guard_addresses` are the
parts that need no HTTP client installed.
"""

from __future__ import annotations

from dedup2d.callbacks.guard_addresses import Refusal, is_public
from dedup2d.callbacks.guard_connector import GuardedConnector, ThreadsResolver, check_resolved, connector
from dedup2d.callbacks.guard_url import MAX_URL_LENGTH, GuardOptions, check_url

__all__ = [
    "MAX_URL_LENGTH",
    "GuardOptions",
    "GuardedConnector",
    "Refusal",
    "ThreadsResolver",
    "check_resolved",
    "check_url",
    "connector",
    "is_public",
]
