# Act 2: a replica, fed through Kafka. Sourced by scripts/demo.
# setup: --kafka --kcat

chapter 'A replica, fed through Kafka'
replica_port=$(free_port)
WALFERRY_TARGET=$(uri $replica_port)
WALFERRY_SOURCE=$primary
if [ -z "$primary" ]; then
    first_port=$(free_port)
    WALFERRY_SOURCE=$(uri $first_port)
fi
export WALFERRY_SOURCE WALFERRY_TARGET

act 'A replica beside the primary, and a broker between them'
why "In $work, on ports of their own."
server replica "$newest_programs" $replica_port '' &
replica=$!
if [ -z "$primary" ]; then
    server first "$newest_programs" $first_port '-c wal_level=logical'
    fill "$WALFERRY_SOURCE"
    psql -Xq "$WALFERRY_SOURCE" -c 'ALTER TABLE audit_log REPLICA IDENTITY FULL'
fi
kafka_start
wait $replica
export WALFERRY_KAFKA_BROKERS=127.0.0.1:$kafka_port WALFERRY_KAFKA_PREFIX=inventory
write_env
for name in WALFERRY_SOURCE WALFERRY_TARGET WALFERRY_KAFKA_BROKERS WALFERRY_KAFKA_PREFIX; do show "export $name=${!name}"; done
result "PostgreSQL $(version "$WALFERRY_SOURCE") with the inventory, PostgreSQL $(version "$WALFERRY_TARGET") empty, Apache Kafka $(cat "$WALFERRY_KAFKA/version")"
start_load "$WALFERRY_SOURCE" "$WALFERRY_SOURCE"
result 'the application is at work on the primary: 200 transactions a second'

act 'Two services'
why 'read knows the source and the broker, write copies once and then lives on the topics. Either may start first.'
feed_start=$(milliseconds)
show 'walferry read &'
walferry read >"$work/read.log" 2>&1 &
reader=$!
show 'walferry write &'
walferry write >"$work/write.log" 2>&1 &
writer=$!
processes+=($reader $writer)
alive() {
    kill -0 $reader 2>/dev/null || fail "walferry read ended: see $work/read.log"
    kill -0 $writer 2>/dev/null || fail "walferry write ended: see $work/write.log"
}
until walferry status --wait live --timeout $((60 + rows / 5000))s >"$work/wait.log" 2>&1; do
    [ $? -eq 4 ] || fail "the feed did not become live: see $work/write.log and $work/wait.log"
    alive
done
feed_live_ms=$(($(milliseconds) - feed_start))
run "Live after $feed_live_ms ms: every row is there, and what changes comes through the broker." walferry status

act 'A row arrives'
why 'From the primary into a topic, and out of it into the replica.'
arrival FEDTEST "$work/write.log"
feed_delay=$delay
result "seen on the replica $feed_delay ms after the INSERT was sent"

act 'What any other consumer sees'
why 'One topic a table, one with BEGIN and END of every transaction. Events so far, with kcat:'
show 'kcat -L, kcat -Q'
topics=$(kcat -b "$WALFERRY_KAFKA_BROKERS" -L -J |
    python3 -c 'import json, sys; print("\n".join(sorted(t["topic"] for t in json.load(sys.stdin)["topics"] if "inventory" in t["topic"])))')
kcat -b "$WALFERRY_KAFKA_BROKERS" -Q $(sed 's/.*/-t &:0:-1/' <<<"$topics") 2>"$work/kcat.log" |
    sed -n 's/^\(.*\) \[0\] offset \([0-9]*\).*/\1 \2/p' | sort >"$work/events"
while read -r topic events; do printf '     %-40s %8s\n' "$topic" "$events"; done <"$work/events"
why "The event of that row: Debezium's envelope, values as PostgreSQL writes them."
show 'kcat -C -c … -t inventory.public.devices | grep FEDTEST'
# As many as were counted above: under load a topic has no end that a reader could wait for.
written=$(sed -n 's/^inventory.public.devices //p' "$work/events")
kcat -b "$WALFERRY_KAFKA_BROKERS" -C -c "$written" -q -t inventory.public.devices -f '%k\t%h\t%s\n' 2>"$work/kcat.log" |
    grep FEDTEST | head -1 | python3 demo/event.py | sed 's/^/     /'

act 'Proof under load'
before=$(count committed)
run 'Every table by checksum, both sides at one LSN, while the application writes on.' walferry verify -q
result "meanwhile the application committed $(($(count committed) - before)) transactions"

act 'The broker dies'
why 'kill -9. The application notices nothing: what Kafka has not acknowledged, the slot keeps.'
show "kill -9 $kafka"
kill -KILL $kafka
killed=$(milliseconds)
before=$(count committed)
wait_for_load committed $((before + 400))
alive
missed=$(($(count committed) - before))
walferry status --json >"$work/status.json"
result "the application committed $missed transactions meanwhile; the slot retains $(python3 -c \
    'import json, sys; print(json.load(open(sys.argv[1]))["retained_wal_bytes"] // 1024)' "$work/status.json") kB of WAL"
why 'The same broker comes back, on the same port and data.'
kafka_start
away_ms=$(($(milliseconds) - killed))
lsn=$(psql -XAtq "$WALFERRY_SOURCE" -c 'SELECT pg_current_wal_lsn()')
back=$(milliseconds)
show "walferry status --wait $lsn"
walferry status --wait "$lsn" --timeout 60s >"$work/wait.log" 2>&1 || fail "the feed did not catch up: see $work/read.log, $work/write.log"
alive
caught_up_ms=$(($(milliseconds) - back))
result "the replica has everything that was committed until now, $caught_up_ms ms after the broker answered"

act 'Proof again'
run 'Nothing lost, nothing twice.' walferry verify -q
end_load
feed_events=$(awk '{ sum += $2 } END { print sum }' "$work/events")
if [ -z "$keep" ]; then
    end $reader && end $writer
    run 'Both services end; slot, publication, topics and schema walferry go. The replica keeps its rows.' walferry clean
fi

line 'from nothing to live, through Kafka' "$feed_live_ms ms"
line 'a new row arrived within' "$feed_delay ms"
line 'topics, and events in them when they were shown' "$(wc -l <"$work/events"), $feed_events"
line 'the broker was away for' "$away_ms ms, $missed transactions"
line 'and caught up after' "$caught_up_ms ms"
line 'compared while the application wrote' 'equal, before the broker died and after'
