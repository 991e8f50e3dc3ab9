#!/bin/sh
# Parameter servers as a user runs them: whole trainings with a server among the ranks, what they leave behind, and what is
# refused. TAP.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.5 'topology = { kind = "ps"; };'
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a <= b) }'; }

# ---- sums over servers ----

train 3 ssgd --set sync.algorithm=ssgd; ok $? "ssgd trains two workers with a server"
[ "$(value ssgd world_size)/$(value ssgd workers)/$(value ssgd servers)" = 3/2/1 ]
ok $? "summary.json: three ranks, two workers, one server"
said '2 workers and 1 server on' && said 'rank 2 .*serves'; ok $? "the start-up table tells workers from servers"
said 'server 2 .*busy'; ok $? "the last table tells what the server did"
[ "$(tail -n 1 "$dir/ssgd/metrics.csv" | cut -d, -f1)" = 20 ] && [ "$(wc -l <"$dir/ssgd/eval.csv")" = 3 ]
ok $? "all rows are there"
[ "$(value ssgd batch_total)" = 32 ]; ok $? "the batch is the workers'"
train 2 ring --set sync.algorithm=ssgd --set topology.kind=all-reduce && same ssgd ring
ok $? "two workers add up to the same bits as without a server"
train 5 two --set sync.algorithm=ssgd --set 'train.batch=[16, 8, 4]' --set topology.servers=2 &&
	train 4 one --set sync.algorithm=ssgd --set 'train.batch=[16, 8, 4]' --set comm.progress=hook --set train.eval_every=0 && same two one
ok $? "three unequal workers: two servers or one, driver, evaluation on or off: the same bits"
train 3 local --set sync.algorithm=local && train 3 cocod --set sync.algorithm=cocod; ok $? "local and cocod train over a server"

# ---- ssp and asp ----

train 3 ssp0 --set sync.algorithm=ssp --set sync.staleness=0 && train 3 again --set sync.algorithm=ssp --set sync.staleness=0 \
	--set comm.delay_ms=2 --set train.eval_every=0 && same ssp0 again
ok $? "ssp of staleness 0 repeats to the bit"
[ "$(value ssp0 staleness_max)" = 0 ]; ok $? "and sees no stale model"
for name in ssgd ssp0; do sed -n 2p "$dir/$name/metrics.csv" | cut -d, -f3; done |
	awk '{ a[NR] = $1 } END { d = a[1] - a[2]; exit !(NR == 2 && d < 1e-3 && d > -1e-3) }'
ok $? "and begins as ssgd"
train 4 ssp --set sync.algorithm=ssp --set sync.staleness=2 --set sync.read_every=2 && below "$(value ssp staleness_max)" 2
ok $? "ssp of staleness 2 trains three workers, and no model is older"
train 3 asp --set sync.algorithm=asp --set 'train.batch=[4, 28]'; ok $? "asp trains two workers of unequal batches"
said 'staleness'; ok $? "it tells how stale the models were"
# taken RUN WORKER: its updates, in the log of server 2 or 3
taken() { cat "$dir/$1"/decisions-00[23].csv | grep -c "^[0-9]*,push,$2,"; }
small=$(taken asp 0) big=$(taken asp 1) samples=$(value asp samples)
[ $((4 * small + 28 * big)) = "$samples" ] && [ "$samples" -ge 640 ] && [ "$samples" -lt 668 ] &&
	[ "$(grep -c ',read,' "$dir/asp/decisions-002.csv")" = $((small + big)) ]
ok $? "decisions-002.csv has every update and every read: $small of 4 and $big of 28 samples, $samples in all"
value asp staleness_histogram | tr ' ' '\n' | awk -F: -v all=$((small + big)) '{ n += $2 } END { exit !(n == all) }'
ok $? "the histogram of staleness counts every step"
train 4 slow --set sync.algorithm=asp --set 'cluster.slowdown=[1.0, 1.0, 8.0]' && [ "$(value slow staleness_max)" -gt 2 ]
ok $? "asp beside a slow worker: the others go on"
[ $((3 * $(taken slow 2))) -lt $((2 * $(taken slow 0))) ] && [ $(($(taken slow 0) + $(taken slow 1) + $(taken slow 2))) = 36 ]
ok $? "they take more steps: $(taken slow 0) and $(taken slow 1) of 36, it $(taken slow 2)"
[ "$(value slow steps)" = 12 ] && [ "$(value slow samples)" = 576 ] && [ "$(value slow epochs)" = 2 ] && said 'on average'
ok $? "summary.json has the mean of the steps and all samples, and the last table everybody's steps"
awk -F, -v last="$(taken slow 0)" 'END { exit !($1 == last && $2 >= 2) }' "$dir/slow/metrics.csv" &&
	awk -F, -v last="$(taken slow 0)" 'END { exit !(NR == 3 && $2 == last) }' "$dir/slow/eval.csv"
ok $? "and so have the last rows of metrics.csv and eval.csv"
train 4 bound --set sync.algorithm=ssp --set sync.staleness=2 --set 'cluster.slowdown=[1.0, 1.0, 8.0]' &&
	[ "$(value bound staleness_max)" = 2 ]
ok $? "ssp beside a slow worker: the others wait when they are two steps ahead"
train 3 skewed --set sync.algorithm=ssgd --set data.partition=dirichlet --set train.batch=proportional --set 'train.speeds=[3, 1]' \
	--set train.batch_mean=16 && [ "$(value skewed batch)" = '[24, 8]' ]
ok $? "workers that own their images, batches in the ratio of the speeds"
train 3 momentum --set sync.algorithm=local --set sync.momentum=average; ok $? "an average of the momentum over a server"
train 3 dry --set sync.algorithm=ssp --dry-run && said 'nothing was trained'; ok $? "--dry-run"

# ---- how it ends when it cannot go on ----

train 3 nan --set sync.algorithm=asp --set optimizer.lr=1000.0 --set optimizer.weight_decay=1.0 --set output.log_every=1
[ $? = 4 ]; ok $? "a loss that is not a number ends workers and servers with status 4"
# refused WHAT WORDS OPTIONS…: status 2, and the message has these words
refused() {
	what=$1 words=$2
	shift 2
	train 3 refused "$@"
	[ $? = 2 ] && said "$words" && said 'hint:'; ok $? "$what is refused"
}
refused "a world of servers alone" 'no worker is left' --set topology.servers=3
train 1 alone --set sync.algorithm=ssgd; [ $? = 2 ] && said 'mpirun -np 2 gives one worker'; ok $? "a server alone is refused, unless for --dry-run"
refused "a world_size of the workers alone" 'it counts workers and servers' --set sync.algorithm=ssgd --set world_size=2
refused "ssp without a server" 'does not work on topology.kind' --set sync.algorithm=ssp --set topology.kind=all-reduce
refused "a compressor over servers" 'only adds vectors' --set sync.algorithm=ssgd --set compress.method=topk
refused "what needs all workers' lists" 'does not work on topology.kind' --set sync.algorithm=adaptive
refused "NCCL" 'NCCL has none' --set sync.algorithm=ssgd --set comm.transport=nccl
refused "a batch for the server" 'lists 3 batch sizes, but 2 workers' --set 'train.batch=[8, 8, 8]'
refused "reading less often than staleness allows" 'older than sync.staleness' --set sync.algorithm=ssp --set sync.staleness=1 \
	--set sync.read_every=3

ended
