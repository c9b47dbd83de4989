# Which container engine drives compose.yml, and what is asked of it. Sourced by scripts/{start-all,stop-all,verify}.sh, from
# the repository's folder.
#
#   WALFERRY_ENGINE   docker or podman; found by itself otherwise: docker if its daemon answers, else podman

project=walferry
files=(-f compose/compose.yml)
[ ! -e compose/secrets/monitoring ] || files+=(-f compose/monitoring.yml)

fail() { printf '%s: %s\n' "$(basename "$0")" "$1" >&2; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

find_engine() {
    engine=${WALFERRY_ENGINE:-}
    if [ -z "$engine" ]; then
        if docker info >/dev/null 2>&1; then engine=docker; elif command -v podman >/dev/null; then engine=podman; fi
    fi
    case $engine in
        docker)
            if docker compose version >/dev/null 2>&1; then compose=(docker compose)
            elif command -v docker-compose >/dev/null; then compose=(docker-compose)
            else fail 'docker is here, but not its compose plugin' 'install docker-compose-plugin (Debian: docker-compose)'; fi ;;
        podman)
            command -v podman-compose >/dev/null ||
                fail 'podman is here, but not podman-compose' 'install it: apt-get install podman-compose'
            compose=(podman-compose) ;;
        '')
            if command -v docker >/dev/null; then
                fail 'the docker client is here, but its daemon does not answer' 'start the daemon, or: apt-get install podman podman-compose'
            fi
            fail 'no container engine found' 'apt-get install podman podman-compose, or install docker with its compose plugin' \
                'without one, scripts/demo shows the same with servers of its own' ;;
        *) fail "WALFERRY_ENGINE is \"$engine\"" 'it may be docker or podman' ;;
    esac
}

# podman-compose prints every command that it runs, and may end with 0 when one failed: shown where a container is missing.
said=
compose() {
    if [ $engine = docker ] || [ "$1" = build ]; then
        "${compose[@]}" -p $project "${files[@]}" "$@"
        return
    fi
    said=$("${compose[@]}" -p $project "${files[@]}" "$@" 2>&1) || { echo "$said" >&2; return 1; }
}

# Both engines label what they start alike; the names differ.
container() { # service
    $engine ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" | head -1
}

# Podman runs health checks by systemd's timers, which a machine need not have: asked for here.
is_healthy() { # container
    if [ $engine = podman ]; then
        podman healthcheck run "$1" >/dev/null 2>&1
    else
        [ "$(docker inspect -f '{{.State.Health.Status}}' "$1" 2>/dev/null)" = healthy ]
    fi
}
wait_healthy() { # seconds, services…
    local deadline=$((SECONDS + $1)) service id
    shift
    for service in "$@"; do
        id=$(container "$service")
        [ -n "$id" ] || { echo "$said" >&2; fail "$service was not started"; }
        until is_healthy "$id"; do
            [ $SECONDS -lt $deadline ] || {
                $engine logs --tail 20 "$id" >&2 || true
                fail "$service is not healthy" "its log: $engine logs $id"
            }
            sleep 0.5
        done
        printf '   %-8s healthy\n' "$service"
    done
}

walferry() { $engine exec "$(container writer)" walferry "$@"; }
sql() { # service, statement
    $engine exec "$(container "$1")" psql -XAtq -v ON_ERROR_STOP=1 -U postgres -d inventory -c "$2"
}
