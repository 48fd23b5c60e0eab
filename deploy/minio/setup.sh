#!/bin/sh
# Makes the bucket, and the user `dedup2d` with the rights of policy.json. May run again at any time.
# `s3` is the server that MC_HOST_s3 names.
set -eu
mc mb --ignore-existing s3/drawings
mc admin policy create s3 dedup2d "${POLICY:-/etc/dedup2d/policy.json}"
mc admin user add s3 dedup2d "${S3_SECRET_KEY:?the secret key of the user dedup2d}"
# What is attached already is an error to mc.
if ! said=$(mc admin policy attach s3 dedup2d --user dedup2d 2>&1); then
    case $said in
    *"already in effect"*) ;;
    *)
        echo "$said" >&2
        exit 1
        ;;
    esac
fi
echo "the bucket drawings is there, and the user dedup2d may use it"
