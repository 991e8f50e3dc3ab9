#!/bin/sh
# What the program tells of itself: where time went, what was sent, what was decided, what a run would cost. TAP.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.25
# spent RANK COLUMN: of the last table: 1 step, 2 computing, 3 data, 4 comm, 5 exposed
spent() { awk -v rank="$1" -v c="$2" '$1 == "rank" && $2 == rank && NF >= 8 && $3 ~ /^[0-9.]+$/ { print $(c + 2) }' "$dir/log"; }

# ---- bytes ----

# Exchanges that an evaluation ends or begins are training's too: what was sent is a model for each launch that a log has.
train 3 pairs --set sync.algorithm=adpsgd --set topology.kind=gossip --set topology.graph_seed=2 \
	--set train.epochs=4 --set train.eval_every=0.5 --set "cluster.slowdown=[1, 1, 8]"
ok $? "adpsgd, evaluated eight times"
launches=$(cat "$dir"/pairs/decisions*.csv | grep -c ',launch,')
# models BYTES: how many models that is; up to 3 % of one are gaps between tensors
models() { awk -v bytes="$1" -v n="$(value pairs parameters)" 'BEGIN { printf "%d\n", bytes / (4.06 * n) + 0.5 }'; }
sent=$(awk -F, '{ sum += $10 } END { print 3 * sum }' "$dir/pairs/metrics.csv")
[ "$launches" -gt 0 ] && [ "$(models "$sent")" = "$launches" ]; ok $? "bytes_sent has the models of all $launches launches"
sent=$(awk -v a="$(value pairs bytes_sent_per_step)" -v steps="$(value pairs steps)" 'BEGIN { print 3 * a * steps }')
[ "$(models "$sent")" = "$launches" ]; ok $? "and so has summary.json"
said "; $(awk -v a="$(value pairs bytes_sent_per_step)" 'BEGIN { printf "%.3f", a / 1e6 }') MB sent by a rank and step"
ok $? "and what is printed is the mean of the ranks, not rank 0's"

# ---- decisions ----

for rank in 000 002 007 0123; do echo old >"$dir/pairs/decisions-$rank.csv"; done
echo mine >"$dir/pairs/decisions-of-mine.csv"
train 1 pairs --set sync.algorithm=ssgd; ok $? "another run in the same folder"
[ "$(cd "$dir/pairs" && echo decisions*)" = decisions-of-mine.csv ]; ok $? "the decisions of all the earlier run's ranks are gone, and only they"
set -- --set optimizer.lr=1000.0 --set optimizer.weight_decay=1.0 --set output.log_every=1 --set train.epochs=20
train 3 died --set sync.algorithm=ssp --set sync.staleness=1 --set topology.kind=ps "$@"; [ $? = 4 ]; ok $? "a run over a server that dies"
grep -q '^0,push,0,' "$dir/died/decisions-002.csv"; ok $? "leaves what the server had written down before"
train 2 died2 --set sync.algorithm=adpsgd --set topology.kind=gossip "$@"; [ $? = 4 ]; ok $? "a run of pairs that dies"
cat "$dir"/died2/decisions*.csv | grep -q '^1,launch,0,'; ok $? "leaves what the worker with the bad news had decided"

# ---- time ----

train 3 waits --set sync.algorithm=asp --set topology.kind=ps --set 'cluster.slowdown=[1, 16]' --set train.eval_every=0.2
ok $? "asp beside a slow worker, which the other waits for at each evaluation"
awk -v fast="$(spent 0 2)" -v slow="$(spent 1 2)" 'BEGIN { exit !(fast > 0 && fast < slow / 2) }'
ok $? "rank 0's waiting is not called computing: $(spent 0 2) ms a step, rank 1's: $(spent 1 2) ms"
train 4 shards --set sync.algorithm=asp --set topology.kind=ps --set topology.servers=2
value shards staleness_histogram | tr ' ' '\n' | awk -F: '{ n += $2 } END { exit !(n == 40) }'
ok $? "two servers: the histogram of staleness counts each of 40 steps once: $(value shards staleness_histogram)"

# 256 rows of two samples may be on their way: so far ahead, and no further, may a worker be.
train 3 ahead --set sync.algorithm=asp --set topology.kind=ps --set 'cluster.slowdown=[1, 40]' --set data.size=8 --set train.batch=1 \
	--set train.max_steps=300 --set train.epochs=10 --set train.eval_every=0 --set output.log_every=1
ok $? "a worker that gets more than 256 rows ahead"
[ "$(wc -l <"$dir/ahead/metrics.csv")" = 301 ]; ok $? "all rows are there"
lead=$(awk -F, '$2 == "push" { done[$3]++; ahead = done[0] - last; if ($3 == 1) { last = done[0]; if (ahead > most) most = ahead } }
	END { print most }' "$dir/ahead/decisions-002.csv")
[ "$lead" -ge 40 ] && [ "$lead" -le 520 ]; ok $? "in a step of the slow one it took up to $lead steps"
awk -v fast="$(spent 0 2)" -v slow="$(spent 1 2)" 'BEGIN { exit !(fast > 0 && fast < slow / 2) }'
ok $? "its waiting is not called computing: $(spent 0 2) ms a step, rank 1's: $(spent 1 2) ms"

# ---- predictions ----

# predicted WORKERS COLUMN: of the table of --dry-run: 3 step ms, 5 images/s
predicted() { awk -v p="$1" -v c="$2" '$1 == "workers" { table = 1 } table && $1 == p { print $c; exit }' "$dir/log"; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a > 0.99 * b && a < 1.01 * b) }'; }
set -- --dry-run --set cluster.compute.images_per_s=1000.0 --set cluster.inter.latency_us=0.0 --set cluster.inter.gbit_per_s=1000.0
train 2 dry "$@" --set 'train.batch=[16, 4]'; ok $? "--dry-run of unequal batches"
near "$(predicted 2 3)" 16 && near "$(predicted 2 5)" 1250; ok $? "20 images in the 16 ms that the larger batch takes: $(predicted 2 5) a second"
train 2 dry "$@" --set 'train.batch=[16, 4]' --set 'cluster.slowdown=[1, 8]' && near "$(predicted 2 3)" 32 && near "$(predicted 2 5)" 625
ok $? "the smaller one on a worker that is 8 times slower: $(predicted 2 3) ms"
said 'by rank 1, the slowest; 10 images a worker on average'; ok $? "and it says who is the slowest"

# One process tells what a worker, of as many as the table has, would do beside its servers: the same as when they are there.
table() { sed -n '/^  *workers /,/^ *1024/p' "$dir/log"; }
for algorithm in ssgd cocod ssp asp; do
	train 4 dry "$@" --set topology.kind=ps --set topology.servers=2 --set sync.algorithm=$algorithm && table >"$dir/table"
	train 1 dry "$@" --set topology.kind=ps --set topology.servers=2 --set sync.algorithm=$algorithm &&
		said 'servers    2 beside the workers, none of them started' && [ "$(table | wc -l)" = 12 ] && table | cmp -s - "$dir/table"
	ok $? "$algorithm over two servers: --dry-run in one process predicts what it does in four"
done

ended
