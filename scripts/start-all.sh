#!/usr/bin/env bash
# Starts compose/compose.yml: a source with data, Kafka and its console, a target, walferry's reader and writer; and two services with
# an event router between them. Returns when the target follows the source. Safe to run again.
#
#   scripts/start-all.sh                builds walferry's image first
#   scripts/start-all.sh --no-build     with the images localhost/walferry:latest and localhost/walferry-orders:latest that are there
#   scripts/start-all.sh --monitoring   Prometheus and Grafana besides
#
# Needs docker with its compose plugin, or podman and podman-compose. Ports on this machine (loopback only):
# SOURCE_PORT 5433, TARGET_PORT 5434, KAFKA_PORT 29092, CONSOLE_PORT 8080, READER_PORT 8081, WRITER_PORT 8082, ROUTER_PORT 8083,
# PROMETHEUS_PORT 9090, GRAFANA_PORT 3000. DEMO_DEVICES=1000 makes about 8,500 rows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source compose/engine.sh

build=1 monitoring=
for argument in "$@"; do
    case $argument in
        --no-build) build= ;;
        --monitoring) monitoring=1 ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "start-all.sh: unknown option $argument (see scripts/start-all.sh --help)" >&2; exit 2 ;;
    esac
done
find_engine

# A password for each role, in files that the containers read; none stands in a command line or an environment.
if [ ! -e compose/secrets/services_password ]; then
    ! $engine volume inspect ${project}_source-data >/dev/null 2>&1 ||
        fail 'the data of an earlier start is there, its passwords are not' 'start over: scripts/stop-all.sh --volumes, then scripts/start-all.sh'
    mkdir -p -m 700 compose/secrets
    for name in postgres_password source_password target_password services_password; do
        od -An -tx1 -N16 /dev/urandom | tr -d ' \n' >compose/secrets/$name
        # Read by the containers' own users; the folder keeps everybody else out.
        chmod 444 compose/secrets/$name
    done
fi
# What was started is what stop-all.sh takes down.
if [ -n "$monitoring" ]; then
    : >compose/secrets/monitoring
    files=(-f compose/compose.yml -f compose/monitoring.yml)
fi

if [ -n "$build" ]; then
    echo "Building the images of walferry and of the services ($engine)"
    compose build writer
    compose build inventory
fi
# In two steps for engines that know no conditions of a start.
echo 'Databases and Kafka'
compose up -d source target kafka
wait_healthy 180 source target kafka
echo 'Reader, writer, router, services, console'
compose up -d
wait_healthy 180 reader writer router
echo 'Until the target follows'
walferry status --wait live --timeout 300s
cat <<TEXT

The target follows the source, through Kafka. Now:
   scripts/verify.sh                       compares both sides, sends a row, and places orders
   http://localhost:${CONSOLE_PORT:-8080}                   what is in the topics
   $engine logs -f $(container writer | cut -c1-12)              what the writer does
   $engine exec $(container writer | cut -c1-12) walferry status   where it stands
   scripts/stop-all.sh                     ends it; --volumes removes the data as well
TEXT
