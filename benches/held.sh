# What a contender keeps the source from cleaning up, looked at ten times a second: how long its oldest snapshot stands (what that snapshot
# can still see is not vacuumed), how much WAL its active slot holds back, and how many transactions old the catalog is that the slot needs.
# Sourced by scripts/bench.

held_start() {
    # Not in a single statement that loops: it would hold a snapshot of its own. A walsender that copies tells when its query began alone.
    (
        exec 2>/dev/null
        cd / && echo "
        SELECT 'held', coalesce((SELECT max(extract(epoch FROM clock_timestamp() - coalesce(xact_start, query_start))) FROM pg_stat_activity
                   WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()), 0),
               coalesce((SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) / 1048576 FROM pg_replication_slots WHERE active), 0),
               coalesce((SELECT max(age(catalog_xmin)) FROM pg_replication_slots WHERE active), 0)
        \\watch 0.1" | exec psql -XAtq "$(uri source postgres)" >"$work/held"
    ) &
    held_pid=$!
}

# Notes the most of each: held_stop WHAT WHO METRIC…, of snapshot_s, retained_mb, catalog_age.
held_stop() {
    local what=$1 who=$2 metric
    shift 2
    pkill -P "$held_pid" psql || true
    wait "$held_pid" 2>/dev/null || true
    held_pid=
    awk -F'|' '$1 == "held" { for (i = 2; i <= 4; i++) if ($i + 0 > most[i]) most[i] = $i + 0; n++ }
        END { if (!n) exit 1; printf "snapshot_s %.2f\nretained_mb %.1f\ncatalog_age %d\n", most[2], most[3], most[4] }' "$work/held" >"$work/most" ||
        die "$what: nothing was seen of what $who holds"
    for metric; do note "$what" "$who" "$metric" "$(sed -n "s/^$metric //p" "$work/most")"; done
    say "$what: $who holds at most: $(paste -sd' ' "$work/most")"
}
