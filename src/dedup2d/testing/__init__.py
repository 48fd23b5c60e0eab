"""
Checks of the contracts, and fakes: for tests of back ends and of what uses them.

Each `check_*` function asserts the whole contract of a protocol of `dedup2d.protocols` on
any implementation, and raises `ContractError` with the words of what is not kept.
"""

from __future__ import annotations

from dedup2d.testing.callbacks import check_callback_signer
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import ContractError
from dedup2d.testing.fake_vision import FakeVision, VisionCall
from dedup2d.testing.files import FILE_STORE_CHECKS, FileStoreMaker, check_file_store
from dedup2d.testing.geometries import GEOMETRY_STORE_CHECKS, GeometryStoreMaker, check_geometry_store
from dedup2d.testing.jobs import JOB_STORE_CHECKS, check_job_store
from dedup2d.testing.keys import KEY_STORE_CHECKS, KeyStoreMaker, check_key_store
from dedup2d.testing.queues import QUEUE_CHECKS, QueueMaker, check_queue
from dedup2d.testing.vision import VISION_CLIENT_CHECKS, VisionClientMaker, check_vision_client

__all__ = [
    "FILE_STORE_CHECKS",
    "GEOMETRY_STORE_CHECKS",
    "JOB_STORE_CHECKS",
    "KEY_STORE_CHECKS",
    "QUEUE_CHECKS",
    "VISION_CLIENT_CHECKS",
    "ContractError",
    "FakeVision",
    "FileStoreMaker",
    "GeometryStoreMaker",
    "KeyStoreMaker",
    "ManualClock",
    "QueueMaker",
    "VisionCall",
    "VisionClientMaker",
    "check_callback_signer",
    "check_file_store",
    "check_geometry_store",
    "check_job_store",
    "check_key_store",
    "check_queue",
    "check_vision_client",
]
