# Act 1: one database into another. Sourced by scripts/demo.

chapter 'The move of a live database'
old_port=$(free_port) new_port=$(free_port)
WALFERRY_SOURCE=$(uri $old_port) WALFERRY_TARGET=$(uri $new_port)
export WALFERRY_SOURCE WALFERRY_TARGET
write_env

act "Two servers: PostgreSQL 15 with a device inventory, PostgreSQL $newest empty"
why "In $work, on ports of their own, with a password that is in no command line (PGPASSWORD)."
server old "$WALFERRY_PG_15" $old_port '-c wal_level=logical' &
old=$!
server new "$newest_programs" $new_port '-c wal_level=logical'
wait $old
show "export WALFERRY_SOURCE=$WALFERRY_SOURCE"
show "export WALFERRY_TARGET=$WALFERRY_TARGET"
result "PostgreSQL $(version "$WALFERRY_SOURCE") and $(version "$WALFERRY_TARGET") are running, each with an empty database"
why '13 related tables with what real schemas use; see demo/schema.sql.'
show "psql \$WALFERRY_SOURCE -f demo/schema.sql -f demo/data.sql"
fill "$WALFERRY_SOURCE"
moved=$rows_made
result "$moved rows, $size"

act 'An application at work'
why 'Inserts, updates, deletes, key changes, rollbacks, savepoints in four sessions, 200 transactions a second.'
show 'inventory_load $WALFERRY_SOURCE $WALFERRY_TARGET &'
start_load "$WALFERRY_SOURCE" "$WALFERRY_TARGET"
result "$(count committed) transactions committed so far; it does not stop until the end"

act 'What stands in the way'
why 'check looks at both databases and changes nothing. One finding is waiting for it: a table without a key.'
show 'walferry check'
walferry check >"$work/check.log" 2>&1 && fail "walferry check found nothing: see $work/check.log" || code=$?
sed 's/^/     /' "$work/check.log"
[ $code -eq 4 ] || fail "walferry check ended with $code instead of 4"
why 'The cure that it names (or let migrate do it: --keyless full).'
show "psql \$WALFERRY_SOURCE -c 'ALTER TABLE audit_log REPLICA IDENTITY FULL'"
psql -Xq "$WALFERRY_SOURCE" -c 'ALTER TABLE audit_log REPLICA IDENTITY FULL'
run 'Now nothing stops a run.' walferry check

act 'The move'
why 'Slot, schema, parallel copy of one snapshot, indexes, then every change since. It runs on until the cutover.'
show 'walferry migrate'
start=$(milliseconds)
: >"$work/migrate.log"
if [ -t 1 ]; then
    # On a terminal of its own, so that its bars can be shown now and no longer later on.
    script -qefc "stty cols $(tput cols) rows 40 && exec walferry migrate" /dev/null \
        </dev/null >>"$work/migrate.log" 2>&1 &
else
    walferry migrate >>"$work/migrate.log" 2>&1 &
fi
migrate=$!
processes+=($migrate)
if [ -t 1 ]; then exec {screen}>&1; else exec {screen}> >(sed -u "$indent"); fi
tail -n +1 -f "$work/migrate.log" >&$screen &
shown=$!
# Until the run is on record, status answers "no such run" (4).
(until walferry status --wait live --timeout $((120 + rows / 5000))s >"$work/wait.log" 2>&1; do [ $? -eq 4 ] || exit 1; done) &
live=$!
wait -n $migrate $live || { end "$live" && fail "the move did not become live: see $work/migrate.log and $work/wait.log"; }
kill -0 $migrate 2>/dev/null || { end "$live" && fail "walferry migrate ended: see $work/migrate.log"; }
live_ms=$(($(milliseconds) - start))
end "$shown" && shown= && exec {screen}>&-
[ ! -t 1 ] || printf '\e[?25h\n'
run "Live after $live_ms ms: the copy is complete and follows. From another terminal:" walferry status

act 'A row arrives'
why 'Inserted on the old server while somebody watches for it on the new one.'
arrival MYTEST "$work/migrate.log"
result "seen on the new server $delay ms after the INSERT was sent"

act 'Proof under load'
before=$(count committed)
run 'Every table by checksum, both sides at one LSN, while the application writes on.' walferry verify -q
result "meanwhile the application committed $(($(count committed) - before)) transactions"

act 'The cutover'
why 'Writers wait, the last changes pass, sequences are set, the last check is made, the new server opens.'
show 'walferry cutover'
timeout 300 walferry cutover 2>&1 | tee "$work/cutover.log" | sed "$indent" || fail "the cutover did not succeed: see above and $work/migrate.log"
wait $migrate || fail "walferry migrate ended with $?: see $work/migrate.log"
downtime=$(sed -n 's/.*downtime \([0-9.]* m\?s\).*/\1/p' "$work/cutover.log")
wait_for_load switched 4
result "the application was told by SQLSTATE 25006, reconnected, and could write again $(count outage_ms) ms after its last try"
why 'A forgotten client cannot write to the old server any more, superuser or not.'
show "psql \$WALFERRY_SOURCE -c 'DELETE FROM alerts'"
! psql -X "$WALFERRY_SOURCE" -c '\set VERBOSITY verbose' -c 'DELETE FROM alerts' >"$work/fence.log" 2>&1 ||
    fail 'the old server still took a write'
sed -n '/ERROR\|HINT/s/^/     /p' "$work/fence.log"

act 'Proof after the cutover'
run 'The application waits for this one, otherwise the new server would be ahead already.' walferry verify -q

act 'Life goes on'
why 'The application writes on the new server, with the sequences, triggers and foreign keys that it knows.'
kill -USR1 $load
wait_for_load committed_on_new 400
end_load
# Every transaction left one row in audit_log.
show "psql \$WALFERRY_TARGET -c \"SELECT count(DISTINCT (actor, detail)), count(*) FROM audit_log WHERE action = 'commit'\""
IFS='|' read -r distinct found < <(psql -XAtq "$WALFERRY_TARGET" \
    -c "SELECT count(DISTINCT (actor, detail)), count(*) FROM audit_log WHERE action = 'commit'")
result "$distinct different, $found in all; the application counted $(count committed)"
[ "$found" = "$distinct" ] && [ "$found" -ge "$(count committed)" ] &&
    [ "$found" -le $(($(count committed) + $(count unknown))) ] || fail 'a transaction was lost or done twice'
run 'Slot, publication and schema walferry go. What refuses writes on the old server stays.' walferry clean

line 'moved' "$moved rows in 13 tables, $size"
line 'from nothing to live' "$live_ms ms"
line 'a new row arrived within' "$delay ms"
line 'downtime, as walferry measured it' "$downtime"
line 'downtime, as the application felt it' "$(count outage_ms) ms"
line 'longest transaction besides' "$(count longest_pause_ms) ms"
line 'transactions the application was promised' "$(count committed), $(count committed_on_new) of them on the new server"
line 'transactions found on the new server' "$found"
primary=$WALFERRY_TARGET
