"""
A client of a dedup2d service, for asyncio; needs the extra `client`.

    async with Dedup2DClient(ClientOptions(url="https://drawings.example.com", api_key=key)) as client:
        found = await client.search(Path("part.pdf"))
"""

from __future__ import annotations

from dedup2d.callbacks import verify as verify_callback
from dedup2d.client.api import Dedup2DClient
from dedup2d.client.options import ClientOptions

__all__ = ["ClientOptions", "Dedup2DClient", "verify_callback"]
