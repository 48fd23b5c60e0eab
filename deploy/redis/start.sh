#!/bin/sh
# Starts Redis with a user of its own for dedup2d; what is set here is explained in docs/deployment.md.
# The password comes by standard input, not by the command line, which every process of the machine may read.
set -eu
case ${REDISCLI_AUTH:?the password of the user dedup2d} in
*[!A-Za-z0-9_-]*)
    echo "CAD_ML_REDIS_PASSWORD may have letters, digits, _ and - only: it stands in a URL, too" >&2
    exit 2
    ;;
esac
exec redis-server - <<END
bind ${REDIS_BIND:-* -::*}
port ${REDIS_PORT:-6379}
protected-mode no
dir ${REDIS_DIRECTORY:-/data}
appendonly yes
appendfsync everysec
maxmemory ${REDIS_MAXMEMORY:-512mb}
maxmemory-policy noeviction
user default off
user dedup2d on >$REDISCLI_AUTH ~dedup2d:* ~rq:* &rq:* +@all -@admin -@dangerous +info +config|get
END
