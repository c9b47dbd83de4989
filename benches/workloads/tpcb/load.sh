# 40,000 transactions of four changes each.
pgbench -n -c 4 -j 2 -t "$(times 10000 "$scale")" "$(uri source tpcb)" >/dev/null 2>&1
