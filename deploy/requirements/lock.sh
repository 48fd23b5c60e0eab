#!/bin/sh
# Locks what the images install, with hashes, for the Python of the Dockerfile. Needs uv.
# Run it after a change of the dependencies in pyproject.toml; `--upgrade` takes newer versions.
set -eu
cd "$(dirname "$0")/../.."
here=deploy/requirements

lock() {
    uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate "$@"
}

lock "$@" pyproject.toml --extra all --output-file "$here/full.txt"
# The same versions in the small image as in the large one.
lock pyproject.toml --extra http --extra s3 --extra worker --constraints "$here/full.txt" \
    --output-file "$here/lean.txt"
lock "$@" "$here/build.in" --output-file "$here/build.txt"
