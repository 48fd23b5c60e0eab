"""Files that break readers, sent to the real engine: each a clear problem, at once and as a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from attrs import frozen

from dedup2d_http.routing import PREFIX
from tests import hostile
from tests.http_support import KEY, KEYS, assert_problem
from tests.serving import Served, serving

Maker = Callable[[Path], Path]


@frozen
class Refused:
    """A file, and how it is refused."""

    make: Maker
    status: int
    code: str
    word: str


REFUSED = [
    Refused(hostile.empty, 400, "EMPTY_FILE", "0 bytes"),
    Refused(hostile.text_named_png, 415, "UNSUPPORTED_FORMAT", "plain text"),
    Refused(hostile.truncated_png, 422, "UNREADABLE_DRAWING", "damaged or incomplete"),
    Refused(hostile.truncated_pdf, 422, "UNREADABLE_DRAWING", "PDF"),
    Refused(hostile.truncated_dxf_early, 422, "UNREADABLE_DRAWING", "cut_early.dxf"),
    Refused(hostile.png_of_900_megapixels, 422, "IMAGE_TOO_LARGE", "120,000,000 pixels"),
    Refused(hostile.pdf_of_5000_pages, 422, "UNREADABLE_DRAWING", "200 pages"),
    Refused(hostile.locked_pdf, 422, "UNREADABLE_DRAWING", "password"),
    Refused(hostile.gzip_bomb, 422, "IMAGE_TOO_LARGE", "524,288,000 expanded bytes"),
    Refused(hostile.svg_billion_laughs, 422, "UNREADABLE_DRAWING", "XML entities"),
]
READ: list[Maker] = [hostile.dxf_block_in_itself, hostile.dxf_missing_image, hostile.svg_local_file]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    keys = {"DEDUP2D_API_KEYS": ",".join(f"{tenant}:{key}" for key, tenant in KEYS.items())}
    with serving(tmp_path_factory.mktemp("hostile") / "data", keys) as service:
        yield service


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.make.__name__)
def test_a_file_that_cannot_be_read(served: Served, tmp_path: Path, case: Refused) -> None:
    """If this fails, a broken file ends in a 500, in a file that is half in the index, or in no reason."""
    path = case.make(tmp_path)
    with served.client(KEY) as client:

        def send(route: str) -> httpx.Response:
            return client.post(f"{PREFIX}/{route}", files={"file": (path.name, path.read_bytes())})

        for route in ("search", "index/add"):
            problem = assert_problem(send(route), case.status, case.code, case.word)
            assert path.name in problem["detail"]
            assert str(tmp_path) not in problem["detail"]
        submitted = send("search?async=true")
        if submitted.status_code == 202:
            job = client.get(submitted.json()["poll_url"], headers={"Prefer": "wait=60"}).json()
            assert (job["status"], job["error_code"]) == ("failed", case.code)
            assert case.word in job["error"]
        else:
            assert_problem(submitted, case.status, case.code, case.word)
        assert client.get(f"{PREFIX}/index/drawings").json()["total"] == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", READ, ids=lambda case: case.__name__)
def test_a_file_that_lost_something_is_searched_with_a_warning(
    served: Served, tmp_path: Path, make: Maker
) -> None:
    """If this fails, a drawing with a flaw that can be worked around is refused, or the flaw not told."""
    path = make(tmp_path)
    with served.client(KEY) as client:
        answer = client.post(f"{PREFIX}/search", files={"file": (path.name, path.read_bytes())})

    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"]
