#!/bin/sh
# cluster.compute.sleep, as a user runs it: what is sent and awaited is real, layers only take their time. Times are compared with those of
# other runs here. TAP.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.25 'sync = { algorithm = "ssgd"; };' 'schedule = { bucket_mb = 0.02; };' \
	'cluster = { compute = { sleep = true; images_per_s = 1600.0; }; };'

# between A B LOW HIGH: is A / B in [LOW, HIGH]?
between() { awk -v a="$1" -v b="$2" -v l="$3" -v h="$4" 'BEGIN { exit !(b > 0 && a / b >= l && a / b <= h) }'; }
# A busy machine has three tries; runs that are compared are all made anew.
tries() { "$@" || "$@" || "$@"; }
# ratio LOW HIGH OPTIONS: the step of two workers with these options, over that without
ratio() {
	low=$1 high=$2
	shift 2
	train 2 asleep && train 2 other "$@" && between "$(value other step_ms)" "$(value asleep step_ms)" "$low" "$high"
}
steps() { echo "$(value other step_ms) ms, otherwise $(value asleep step_ms)"; }

# ---- plainly said ----

train 2 asleep && said '^asleep     layers do not compute' && said 'NOTHING IS LEARNT' && said 'asleep, nothing was learnt'
ok $? "two workers train asleep, and are told that nothing is learnt"
grep -q '"computing": "asleep"' "$dir/asleep/summary.json" && grep -q '"final_test_accuracy": null' "$dir/asleep/summary.json" &&
	grep -q '"final_train_loss": null' "$dir/asleep/summary.json"
ok $? "  summary.json has no loss and no accuracy"
[ "$(wc -l <"$dir/asleep/eval.csv")" = 1 ] && [ "$(wc -l <"$dir/asleep/metrics.csv")" -gt 3 ] && ! grep -qi nan "$dir/asleep/metrics.csv"
ok $? "  nothing is evaluated, and metrics.csv has its rows"
train 2 again --set comm.progress=thread && same asleep again; ok $? "  a repetition sends the same to the bit, with another driver, too"

# ---- layers take their time ----

tries ratio 1.6 2.4 --set cluster.compute.images_per_s=800.0; ok $? "half as fast, twice the step: $(steps)"
tries ratio 2.4 3.6 --set 'cluster.slowdown=[1.0, 3.0]'; ok $? "a rank that is three times slower holds up both: $(steps)"
tries ratio 2.4 3.6 --set 'train.batch=[16, 48]'; ok $? "so does one with three times the images: $(steps)"
tries ratio 2 5 --set cluster.jitter=2.0; ok $? "jitter makes steps longer: $(steps)"
eight() { train 8 many && between "$(value many compute_ms)" "$(value asleep compute_ms)" 0.8 1.25; }
tries eight; ok $? "eight workers need no eight cores: layers take $(value many compute_ms) ms, of two workers $(value asleep compute_ms)"
! said 'expect a slow-down'; ok $? "  and are not warned of"

# ---- the four sources ----

given() { train 2 "$@" --set cluster.compute.images_per_s=0.0; }
given measured && said 'times measured by rank 0 alone, batch 16' && [ "$(value measured step_ms)" != 0 ]; ok $? "without a speed rank 0 measures for all"
train 1 none --set cluster.compute.sleep=false "--calibrate=$dir/net.profile"
awk '/^update/ { $2 = 30000 } /^layer .*conv/ { $4 = $5 = $6 = 10 } { print }' "$dir/net.profile" >"$dir/even.profile"
sed 's/^update 30000/update 90000/' "$dir/even.profile" >"$dir/late.profile"
updates() {
	train 2 late --set "cluster.compute.profile=\"$dir/late.profile\"" --set output.predict=false &&
		train 2 even --set "cluster.compute.profile=\"$dir/even.profile\"" --set output.predict=false &&
		between "$(value late step_ms)" "$(value even step_ms)" 2 3
}
tries updates; ok $? "an update that takes three times as long: $(value late step_ms) ms, $(value even step_ms)"
said 'an update takes 30.00' && said 'from cluster.compute.profile: '; ok $? "  by a profile"

# ---- overlap is real ----

# Four buckets, each delayed by 30 ms, beside 133 ms of backward.
overlap() {
	train 2 overlap --set cluster.compute.images_per_s=80.0 --set train.max_steps=6 --set comm.delay_ms=30 --set comm.progress="$1" &&
		awk -v s="$(value overlap step_ms)" -v c="$(value overlap compute_ms)" -v m="$(value overlap comm_ms)" -v h="$(value overlap hidden_fraction)" \
			'BEGIN { exit !(m > 110 && h > 0.4 && s < c + 0.6 * m) }'
}
# An exchange of 50 ms beside two steps of 100.
hides() {
	train 2 cocod --set sync.algorithm=cocod --set sync.period=2 --set cluster.compute.images_per_s=160.0 --set train.max_steps=8 \
		--set comm.delay_ms=50 --set comm.progress="$1" && awk -v h="$(value cocod hidden_fraction)" 'BEGIN { exit !(h > 0.6) }'
}
for progress in hook thread; do
	tries overlap $progress
	ok $? "ssgd ($progress): messages leave during backward: $(value overlap step_ms) ms, $(value overlap compute_ms) of layers, $(value overlap comm_ms) of messages"
	tries hides $progress
	ok $? "cocod ($progress): a period hides its exchange: $(value cocod hidden_fraction) of it"
done
train 2 exposed --set sync.algorithm=local --set sync.period=2 --set cluster.compute.images_per_s=320.0 --set comm.delay_ms=50 &&
	awk -v h="$(value exposed hidden_fraction)" 'BEGIN { exit !(h < 0.2) }'
ok $? "local hides nothing: $(value exposed hidden_fraction)"
train 2 planned --set schedule.fusion=mg-wfbp && grep -q '^backward 0.00666' "$dir/planned/schedule.txt"; ok $? "a plan goes by the given times"

# ---- whatever is sent ----

runs() { # runs RANKS WHAT [OPTIONS]
	ranks_of=$1 what=$2
	shift 2
	train "$ranks_of" any --set train.max_steps=9 --set cluster.compute.images_per_s=6400.0 "$@" && said 'nothing was learnt' &&
		awk -v b="$(value any bytes_sent_per_step)" 'BEGIN { exit !(b > 0) }'
	ok $? "$what"
}
for algorithm in local cocod pipe acco slowmo diloco adaptive losp easgd; do
	runs 2 "$algorithm" --set sync.algorithm=$algorithm --set sync.period=2
done
for method in topk gtopk threshold gaussian-k powersgd int8; do
	runs 2 "ssgd with $method" --set compress.method=$method
done
runs 2 "cocod with topk" --set sync.algorithm=cocod --set compress.method=topk
runs 2 "ssgd, halves" --set schedule.split=true
runs 2 "ssgd, by priority" --set schedule.priority=true --set schedule.slice_mb=0.05
runs 2 "AdamW" --set optimizer.name=adamw --set optimizer.lr=0.001
runs 3 "neighbours" --set sync.algorithm=dpsgd --set topology.kind=gossip
runs 3 "neighbours at their own pace" --set sync.algorithm=adpsgd --set topology.kind=gossip
runs 3 "servers" --set sync.algorithm=ssp --set topology.kind=ps
train 2 long --set compress.method=topk --set train.epochs=30 --set cluster.compute.images_per_s=100000.0 --set output.log_every=100 &&
	[ "$(value long bytes_sent_per_step)" = "$(train 2 any --set compress.method=topk >/dev/null && value any bytes_sent_per_step)" ]
ok $? "300 steps of topk send as much a step as 20"

# ---- refused ----

train 2 any --set train.batch=proportional; [ $? = 2 ] && said 'with cluster.compute.sleep = true'; ok $? "speeds that nobody has are not measured"
train 2 any --set train.batch=proportional --set 'train.speeds=[1, 3]'; ok $? "  but taken"
train 2 any --dry-run && said '^compute  .*from cluster.compute.images_per_s'; ok $? "--dry-run"
emulated=$PWD/${BUILD:-build/gcc-dnnl}/emulated/libcocod-cuda.so
if [ -f "$emulated" ]; then
	COCOD_BACKEND=$emulated train 1 any --set device.kind=cuda
	[ $? = 2 ] && said 'lets layers sleep on the host, but device "cuda" computes'
	ok $? "a GPU does not sleep"
fi

ended
