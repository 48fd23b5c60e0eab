#!/usr/bin/env python3
"""
Exits with 0 if a URL answers with 200, else with 1 and the reason: `healthcheck.py URL`.

For the health checks of containers, whose image has neither curl nor wget.
"""

import sys
import urllib.error
import urllib.request

_SECONDS = 4.0  # less than the time-out of the check itself, so that there is a reason to show


def main(arguments: list[str]) -> int:
    """Look at the one URL that *arguments* name."""
    if len(arguments) != 1:
        sys.stderr.write("usage: healthcheck.py URL\n")
        return 2
    # A proxy of the environment must not stand between a container and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(arguments[0], timeout=_SECONDS) as answer:
            found = f"status {answer.status}"
            healthy = answer.status == 200
    except urllib.error.HTTPError as error:
        found, healthy = f"status {error.code}", False
    except (OSError, ValueError) as error:
        found, healthy = str(error), False
    sys.stdout.write(f"{found}\n")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
