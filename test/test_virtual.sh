#!/bin/sh
# The clock of a cluster that is not there, as a user meets it: results stay what they are, times are those of the formulas, and repeat to
# the digit. Times of this machine are only compared with each other. TAP.
#
#   test/test_virtual.sh [PART…]     results formulas overlap slower servers emulated refusals; without: all
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
parts=$*
# Computing is given, so that nothing is measured: 2 ms an image, 8 ms a step. One network, inside of nodes and between them.
small 0.25 'cluster = { inter = { latency_us = 100.0; gbit_per_s = 0.4; }; intra = { latency_us = 100.0; gbit_per_s = 0.4; };
	compute = { images_per_s = 500.0; }; };'
cat >>"$config" <<'END'
comm = { progress = "hook"; };
END
set -- --set train.batch=4 --set data.size=8 --set output.predict=false --set output.tensorboard=false --set train.max_steps=9
few=$*
virtual=cluster.clock=virtual

# near A B: within 0.2 %
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a >= 0.998 * b && a <= 1.002 * b) }'; }
above() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a > b) }'; }
# sum EXPRESSION: of numbers
sum() { awk "BEGIN { printf \"%.9g\", ($1) }"; }
# message NAME EXCHANGES: ms of an all-reduce of that run, which made so many: 2 (P - 1) latencies, and the bytes that a rank sends
message() { sum "4 * 0.1 + $(value "$1" bytes_sent_per_step) * $(value "$1" steps) / $2 * 8 / 0.4e9 * 1e3"; }
# equal NAME NAME: the same modelled times, in all files
equal() {
	[ -n "$(value "$1" virtual_s)" ] && [ "$(value "$1" virtual_s)" != null ] && [ "$(value "$1" virtual_s)" = "$(value "$2" virtual_s)" ] &&
		[ "$(value "$1" virtual_exposed_ms)" = "$(value "$2" virtual_exposed_ms)" ]
}
# column NAME FILE: virtual_s, the last one of all tables
column() { sed 1d "$dir/$1/$2" | awk -F, '{ print $NF }'; }
rises() { awk '$1 == "" || $1 + 0 <= last { bad = 1 } { last = $1 + 0 } END { exit bad || NR == 0 }'; }

# exact NAME ALGORITHM [OPTIONS]: 16 steps of three workers on the virtual clock
exact() {
	name=$1 algorithm=$2
	shift 2
	# shellcheck disable=SC2086
	train 3 "$name" $few --set $virtual --set "sync.algorithm=$algorithm" --set schedule.fusion=model --set train.max_steps=16 "$@"
}
# For comparisons; with what no other test needs of it, it is made once.
plain() { [ -d "$dir/ssgd" ] || exact ssgd ssgd --set output.predict=true --set output.log_every=1 --set train.eval_every=0.1; }
# refused WHAT WORDS OPTIONS…
refused() {
	what=$1 words=$2
	shift 2
	train 2 refused "$@"
	[ $? = 2 ] && said "$words" && said 'hint: '; ok $? "$what is refused"
}

# ---- results stay what they are ----

results()
{
	# Not these: ssp and asp add in the order in which updates come, which the virtual clock decides, and on the wall chance. adpsgd
	# is refused below. adaptive chooses its period by the clock, unless periods are given.
	scripts/algorithms "$program" >"$dir/algorithms"
	[ "$(wc -l <"$dir/algorithms")" -ge 20 ]; ok $? "there are algorithms to try: $(wc -l <"$dir/algorithms")"
	while read -r algorithm topology; do
		case $algorithm in ssp | asp | adpsgd) continue ;; esac
		# shellcheck disable=SC2086
		set -- $few --set "sync.algorithm=$algorithm" --set "topology.kind=$topology" --set 'sync.periods=[2]'
		[ "$algorithm" = adaptive ] || set -- "$@" --set sync.period=2
		case $algorithm in
		choco) set -- "$@" --set compress.method=topk ;;
		streaming-diloco) set -- "$@" --set sync.fragments=2 ;;
		esac
		train 3 wall "$@" </dev/null && train 3 virtual "$@" --set $virtual --set train.eval_every=0 </dev/null && same wall virtual &&
			above "$(value virtual virtual_s)" 0
		ok $? "$algorithm: the same bits on both clocks"
	done <"$dir/algorithms"
	for method in $("$program" --list | sed -n '/^compress:/,/^comm:/s/^  method "\([a-z0-9-]*\)".*/\1/p'); do
		[ "$method" = none ] && continue
		# shellcheck disable=SC2086
		set -- $few --set sync.algorithm=ssgd --set "compress.method=$method" --set compress.density=0.05
		workers=3
		case $method in
		hierarchical) set -- "$@" --set compress.group=2; workers=4 ;;
		dgc) set -- "$@" --set optimizer.momentum=0.0 ;;
		esac
		train $workers wall "$@" && train $workers virtual "$@" --set $virtual --set comm.progress=thread && same wall virtual &&
			above "$(value virtual virtual_comm_ms)" 0
		ok $? "ssgd with $method: the same bits on both clocks"
	done
}

# ---- times are those of the formulas ----

formulas()
{
	plain
	near "$(value ssgd virtual_compute_ms)" 8; ok $? "four images at 500 a second: $(value ssgd virtual_compute_ms) ms"
	near "$(value ssgd virtual_step_ms)" "$(sum "8 + $(message ssgd 16)")" && near "$(value ssgd virtual_exposed_ms)" "$(message ssgd 16)"
	ok $? "ssgd, one message: computing, then $(message ssgd 16) ms of an all-reduce"
	said '^clock      virtual: .*inter 100 us 0.4 Gbit/s.*; layers: from cluster.compute.images_per_s'; ok $? "the start says whose times these are"
	said '^network    100 us latency, 0.4 Gbit/s (cluster.inter)' && said 'predicted  *virtual  *error' &&
		near "$(value ssgd predicted_step_ms)" "$(value ssgd virtual_step_ms)" && near "$(sum "1 + $(value ssgd prediction_error)")" 1
	ok $? "the forecast takes that network, and is compared with that clock: $(value ssgd predicted_step_ms) ms"
	[ "$(column ssgd metrics.csv | wc -l)" = 16 ] && column ssgd metrics.csv | rises && [ "$(column ssgd eval.csv | wc -l)" -ge 4 ] &&
		column ssgd eval.csv | rises && [ "$(column ssgd metrics.csv | tail -n 1)" = "$(column ssgd eval.csv | tail -n 1)" ]
	ok $? "virtual_s rises from row to row of metrics.csv and eval.csv"
	near "$(column ssgd metrics.csv | tail -n 1)" "$(value ssgd virtual_s)"; ok $? "up to what summary.json has"
	exact again ssgd --set train.eval_every=0 --set comm.progress=thread && equal ssgd again && same ssgd again
	ok $? "a second run, without evaluations, driven by a thread: the same times to the digit"
	exact wall ssgd --set cluster.clock=wall && [ "$(value wall virtual_s)" = null ] &&
		[ -z "$( (column wall metrics.csv; column wall eval.csv) | tr -d '\n')" ] && ! said '^clock ' && ! said 'virtual clock'
	ok $? "on the wall clock virtual_s stays empty"

	exact local local --set sync.period=4 --set output.predict=true
	near "$(value local virtual_step_ms)" "$(sum "8 + $(message local 4) / 4")" && near "$(value local virtual_step_ms)" "$(value local predicted_step_ms)"
	ok $? "local, period 4: a quarter of an all-reduce a step, as the formula says: $(value local virtual_step_ms) ms"
	exact delay local --set sync.period=4 --set comm.delay_ms=12 && same local delay &&
		near "$(value delay virtual_step_ms)" "$(sum "3 + $(value local virtual_step_ms)")"
	ok $? "and a quarter of comm.delay_ms: $(value delay virtual_step_ms) ms"
	exact both local --set sync.period=4 --set comm.delay_ms=12 --set sync.momentum=average --set output.predict=true &&
		near "$(value both virtual_step_ms)" "$(sum "8 + (2 * 12 + $(message both 4) + 0.4) / 4")" &&
		near "$(value both virtual_step_ms)" "$(value both predicted_step_ms)"
	ok $? "the momentum beside it: another delay and another message, forecast and done: $(value both virtual_step_ms) ms"
	exact pipe pipe --set output.predict=true && near "$(value pipe virtual_step_ms)" "$(value pipe predicted_step_ms)" &&
		near "$(value pipe virtual_step_ms)" 8
	ok $? "pipe: a message as long as the next step, hidden: $(value pipe virtual_step_ms) ms"
	# shellcheck disable=SC2086
	train 4 nodes $few --set $virtual --set sync.algorithm=ssgd --set schedule.fusion=model --set compress.method=bf16 --set output.predict=true \
		--set cluster.workers_per_node=2 --set cluster.inter.gbit_per_s=0.02 && said '^clock      virtual: 2 nodes of 2, inter .*, intra ' &&
		[ "$(sum "($(value nodes predicted_exposed_ms) / $(value nodes virtual_exposed_ms) - 1) ^ 2 < 0.02 ^ 2")" = 1 ]
	ok $? "two nodes of two: bf16's scatter shares their links, as foretold: $(value nodes predicted_exposed_ms), $(value nodes virtual_exposed_ms) ms"
}

# ---- overlap: this fails when it vanishes ----

overlap()
{
	plain
	# In 16 steps four exchanges leave, and the first three of them are waited for.
	exact fits cocod --set sync.period=4
	near "$(value fits virtual_comm_ms)" "$(sum "$(message fits 4) / 4")" && [ "$(value fits virtual_exposed_ms)" = 0 ] &&
		near "$(value fits virtual_step_ms)" 8
	ok $? "cocod: an exchange of $(message fits 4) ms hides in four steps of 8"
	exact slow cocod --set sync.period=4 --set comm.delay_ms=60
	tail=$(sum "$(message slow 4) + 60 - 4 * 8")
	near "$(sum "16 * $(value slow virtual_exposed_ms)")" "$(sum "3 * $tail")" && same fits slow &&
		near "$(value slow virtual_step_ms)" "$(sum "8 + 3 * $tail / 16")"
	ok $? "one that takes 60 ms longer is exposed for the $tail ms beyond them: $(value slow virtual_exposed_ms) a step"
	exact none ssgd --set schedule.fusion=none && exact size ssgd --set schedule.fusion=size --set schedule.bucket_mb=0.02
	[ "$(sum "$(value size virtual_exposed_ms) > 0 && $(value size virtual_exposed_ms) < 0.6 * $(value size virtual_comm_ms)")" = 1 ] &&
		near "$(value size virtual_step_ms)" "$(sum "8 + $(value size virtual_exposed_ms)")"
	ok $? "ssgd in buckets: of $(value size virtual_comm_ms) ms of messages $(value size virtual_exposed_ms) are left behind backward"
	above "$(value none virtual_step_ms)" "$(value ssgd virtual_step_ms)"; ok $? "a message for every tensor: latencies are longer than all of backward"
	exact planned ssgd --set schedule.fusion=mg-wfbp && said ' 400 us + M' &&
		[ "$(sum "$(value planned virtual_step_ms) <= 1.002 * $(value size virtual_step_ms)")" = 1 ]
	ok $? "mg-wfbp plans by the modelled network, and beats them: $(value planned virtual_step_ms) ms"
	for key in split priority; do
		exact $key ssgd --set schedule.fusion=size --set schedule.bucket_mb=0.02 --set schedule.$key=true && same size $key
		[ "$(sum "$(value $key virtual_exposed_ms) < $(value size virtual_exposed_ms)")" = 1 ]
		ok $? "schedule.$key hides some of it in the next forward: $(value $key virtual_exposed_ms) ms"
	done
}

# ---- slower ranks ----

slower()
{
	plain
	exact slowed ssgd --set 'cluster.slowdown=[1, 3, 1]' && same ssgd slowed &&
		near "$(value slowed virtual_step_ms)" "$(sum "24 + $(message slowed 16)")"
	ok $? "a rank that is three times slower: everybody's step is its 24 ms and the message: $(value slowed virtual_step_ms)"
	sed -n '/virtual clock/,$p' "$dir/log" | grep -q 'slowest to compute: rank 1;'; ok $? "and it is named"
	exact jitter ssgd --set cluster.jitter=0.5 && exact jitter2 ssgd --set cluster.jitter=0.5 --set comm.progress=thread && equal jitter jitter2 &&
		above "$(value jitter virtual_step_ms)" "$(value ssgd virtual_step_ms)" && same ssgd jitter
	ok $? "steps that take random times take the same ones in a second run"
	exact shares ssgd --set train.batch=proportional --set train.batch_mean=10 --set 'cluster.slowdown=[1, 2, 1]' &&
		[ "$(value shares batch)" = '[12, 6, 12]' ] && said 'speeds of the virtual clock'
	ok $? "batches in the ratio of the virtual speeds: $(value shares batch)"
	exact periods adaptive --set sync.periods=[] --set comm.delay_ms=30 && exact periods2 adaptive --set sync.periods=[] --set comm.delay_ms=30 \
		--set comm.progress=thread && equal periods periods2 && same periods periods2
	ok $? "adaptive decides by that clock: a second run is the same to the bit"
	set -- --set topology.kind=gossip
	exact ring dpsgd "$@" && exact ring2 dpsgd "$@" --set comm.progress=thread && equal ring ring2
	ok $? "dpsgd with neighbours: the same times twice"
}

# ---- servers ----

# taken RUN WORKER: its updates
taken() { grep -c ",push,$2," "$dir/$1/decisions-003.csv"; }

servers()
{
	for algorithm in ssgd asp ssp; do
		# shellcheck disable=SC2086
		set -- $few --set $virtual --set sync.algorithm=$algorithm --set topology.kind=ps --set topology.servers=2 --set sync.staleness=2 \
			--set 'cluster.slowdown=[1, 3, 1]'
		train 5 first "$@" --set train.eval_every=0.2 && train 5 second "$@" --set comm.progress=thread --set train.eval_every=0.2 &&
			equal first second && same first second &&
			{ [ $algorithm = ssgd ] || cmp -s "$dir/first/decisions-003.csv" "$dir/second/decisions-003.csv"; }
		ok $? "$algorithm over two servers, a slow worker: order, times and bits of a second run: $(value first virtual_step_ms) ms a step"
		[ $algorithm = asp ] || continue
		even=$(($(taken first 0) - $(taken first 2)))
		[ $even -ge -1 ] && [ $even -le 1 ] && [ "$(taken first 1)" -lt "$(taken first 0)" ]
		ok $? "asp: workers of one speed keep in step, the slow one does not: $(taken first 0), $(taken first 1) and $(taken first 2) steps"
	done
}

# ---- emulated: on the wall clock ----

emulated()
{
	# Computing takes next to nothing by the model, so a real step is longer than the modelled one if messages are waited for.
	for algorithm in ssgd cocod; do
		set -- --set sync.period=2 --set train.max_steps=8 --set cluster.compute.images_per_s=1000000.0 \
			--set cluster.inter.gbit_per_s=0.004 --set cluster.intra.gbit_per_s=0.004
		exact modelled $algorithm "$@" && exact emulated $algorithm "$@" --set cluster.clock=wall --set cluster.emulate=true --set output.predict=true &&
			same modelled emulated && above "$(value emulated step_ms)" "$(value modelled virtual_step_ms)" && said '^clock      wall; messages wait as on '
		ok $? "$algorithm, emulated: $(value emulated step_ms) ms on the wall, $(value modelled virtual_step_ms) by the model; the same bits"
		awk -v p="$(value emulated predicted_step_ms)" -v m="$(value modelled virtual_step_ms)" 'BEGIN { exit !(p > 0.7 * m && p < 1.8 * m) }'
		ok $? "  foretold by messages that were timed: $(value emulated predicted_step_ms)"
	done
}

# ---- what does not go together ----

refusals()
{
	refused "emulating the virtual clock" 'exclude each other' --set $virtual --set cluster.emulate=true
	refused "NCCL on the virtual clock" 'cluster.clock .* does not go with comm.transport' --set $virtual --set comm.transport=nccl
	refused "emulated NCCL" 'cluster.emulate .* does not go with comm.transport' --set cluster.emulate=true --set comm.transport=nccl
	refused "sleeping on the virtual clock" 'cluster.clock .* does not go with cluster.compute.sleep' --set $virtual \
		--set cluster.compute.sleep=true
	refused "adpsgd on the virtual clock" 'does not go with sync.algorithm' --set $virtual --set sync.algorithm=adpsgd --set topology.kind=gossip
	train 1 alone --set $virtual --set train.max_steps=3 --set train.batch=4 && near "$(value alone virtual_step_ms)" 8
	ok $? "one worker alone has a virtual clock, too"
}

for part in ${parts:-results formulas overlap slower servers emulated refusals}; do
	$part
done
ended
