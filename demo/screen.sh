# What the screen shows, and the summary at the end. Sourced by scripts/demo.

bold= plain= quiet=
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m' quiet=$'\e[2m'; fi
step=0 lines=()
# of a line's time what matters here
indent='s/^[0-9-]\{10\}T\([0-9:]*\.[0-9]\{3\}\)[0-9]*Z/\1/; s/^/     /'
# Begins an act, and its part of the summary.
chapter() {
    [ ${#acts[@]} -eq 1 ] || printf '\n%s── %s ──%s\n' "$bold" "$1" "$plain"
    lines+=("" "$1")
}
act() { step=$((step + 1)) && printf '\n%s%d. %s%s\n' "$bold" $step "$1" "$plain"; }
why() { printf '%s   %s%s\n' "$quiet" "$1" "$plain"; }
show() { printf '   $ %s\n' "$1"; }
result() { printf '     %s\n' "$@"; }
# one line why, the command, what it prints
run() {
    why "$1" && shift && show "$*"
    "$@" 2>&1 | sed "$indent" || fail "\"$*\" ended with ${PIPESTATUS[0]}: what it says stands above"
}
milliseconds() { echo $((${EPOCHREALTIME/./} / 1000)); }

# A line of the summary.
line() { lines+=("$(printf '   %-46s %s' "$1" "$2")"); }
summary() {
    printf '\n%sSummary%s' "$bold" "$plain"
    printf '%s\n' "${lines[@]}" ''
    printf '   %-46s %s\n' 'the whole demo' "$((($(milliseconds) - began + 500) / 1000)) s"
}
