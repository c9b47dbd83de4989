#!/usr/bin/env bash
# Stops what scripts/start-all.sh started. The data stays: the next start goes on where this one ended.
#
#   scripts/stop-all.sh             containers and network go
#   scripts/stop-all.sh --volumes   the data and the passwords as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source compose/engine.sh

volumes=
for argument in "$@"; do
    case $argument in
        --volumes | -v) volumes=1 ;;
        -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "stop-all.sh: unknown option $argument (see scripts/stop-all.sh --help)" >&2; exit 2 ;;
    esac
done
find_engine
compose down ${volumes:+-v}
if [ -n "$volumes" ]; then
    # podman-compose before 1.0.4 leaves the volumes of "down -v" where they are.
    for volume in source-data target-data kafka-data prometheus-data grafana-data; do
        ! $engine volume inspect ${project}_$volume >/dev/null 2>&1 || $engine volume rm ${project}_$volume >/dev/null
    done
    rm -rf compose/secrets
    echo 'Containers, data and passwords are gone.'
else
    echo 'Stopped. The data is kept; scripts/stop-all.sh --volumes removes it.'
fi
