#!/usr/bin/env bash
# Proves that the databases of scripts/start-all.sh are equal: every table by checksum at one LSN while the stream goes on,
# then the rows of both sides, then a row inserted into the source and seen on the target. Then orders are placed, by rows of an outbox
# and by logical messages, and each has to be reserved once.
#
# Exit codes are those of walferry verify: 0 equal, 1 different (or something did not arrive), 3 could not verify.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source compose/engine.sh
case ${1:-} in
    '') ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "verify.sh: unknown option $1 (see scripts/verify.sh --help)" >&2; exit 2 ;;
esac
find_engine
[ -n "$(container writer)" ] || fail 'nothing is running' 'start it: scripts/start-all.sh'

echo '1. Both sides at one LSN (walferry verify)'
walferry verify -q | sed 's/^/   /'

echo '2. Rows'
rows() { # service
    sql "$1" "SELECT sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass),
        false, true, '')))[1]::text::bigint) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
}
printf '   source %s\n   target %s\n' "$(rows source)" "$(rows target)"

echo '3. A new row'
tag=TEST$(($(date +%s) % 100000000))
# Watches inside of the target's server and says when it begins to and when the row is there.
exec {watch}< <(exec $engine exec -i "$(container target)" psql -XAtq -v ON_ERROR_STOP=1 -v tag=$tag -U postgres -d inventory <demo/arrival.sql)
read -r -u $watch _watching || fail 'the target does not answer'
sent=$(sql source "INSERT INTO devices(service_tag,device_name,device_type_id,model,ip_address,health_status)
    VALUES('$tag','test.local',1,'PowerEdge R750','10.99.1.1','OK') RETURNING round(extract(epoch FROM clock_timestamp()) * 1000)")
read -r -u $watch arrived || fail 'the row did not arrive within 60 s' "$engine logs $(container writer)"
exec {watch}<&-
printf '   %s\n' "$(sql target "SELECT service_tag || ', ' || model || ', ' || health_status FROM devices WHERE service_tag = '$tag'")"
printf '   seen on the target %s ms after its INSERT\n' $((arrived - sent))

echo '4. Orders'
for way in table message; do
    $engine exec "$(container inventory)" orders place 'postgresql://orders@source/orders?sslmode=disable' chair 50 $way | sed "s/^/   /; s/$/ ($way)/"
done
count() { # service, database, statement
    $engine exec "$(container "$1")" psql -XAtq -v ON_ERROR_STOP=1 -U postgres -d "$2" -c "$3"
}
placed=$(count source orders 'SELECT count(*) FROM orders')
deadline=$((SECONDS + 60))
until reserved=$(count target stock 'SELECT count(DISTINCT order_id) FROM reservations') && [ "$reserved" -ge "$placed" ]; do
    [ $SECONDS -lt $deadline ] || fail "$reserved of $placed orders are reserved" "$engine logs $(container router)" "$engine logs $(container inventory)"
    sleep 0.2
done
[ "$(count target stock 'SELECT count(*) FROM reservations')" = "$placed" ] || fail 'an order is reserved more than once'
[ "$(count source orders 'SELECT sum(quantity) FROM orders')" = "$(count target stock 'SELECT 1000000 - free FROM stock')" ] || fail 'the stock is not what is left of it'
printf '   %s placed in all, each reserved once\n' "$placed"
