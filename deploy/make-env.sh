#!/bin/sh
# Makes deploy/.env from deploy/.env.example, with secrets that nobody else has. Leaves one that is there alone.
set -eu
umask 077
here=$(dirname "$0")
to=${1:-$here/.env}
if [ -e "$to" ]; then
    echo "$to is there already: delete it to get new secrets; what was stored with the old ones stays locked" >&2
    exit 1
fi

secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

tenant=$(sed -n 's/^DEDUP2D_TENANT=//p' "$here/.env.example")
while IFS= read -r line; do
    case $line in
    DEDUP2D_API_KEYS=) line=$line$tenant:$(secret) ;;
    [A-Z]*=) line=$line$(secret) ;;
    esac
    printf '%s\n' "$line"
done <"$here/.env.example" >"$to.part"
mv "$to.part" "$to"
echo "made $to, which only you can read; the key of the tenant $tenant is in DEDUP2D_API_KEYS"
