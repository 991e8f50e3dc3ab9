#!/bin/sh
# output.trace as a user has it: trace.json of whole runs. trace_check reads it strictly and knows what must always hold (spans nest, flows are
# pairs and never go back in time); the rules below say what the run must have done, by order and overlap, never by durations.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.5
checker=${program%/*}/test/trace_check
on="--set output.trace=true"

# traced NAME RULE…: its trace is valid, and the rules hold
traced() {
	run=$1
	shift
	"$checker" "$dir/$run/trace.json" "$@" >"$dir/log" 2>&1
}
left_out() { sed -n 's/.*"events_left_out": "\([0-9]*\)".*/\1/p' "$dir/$1/trace.json"; }

# ---- synchronous gradients ----

set -- --set sync.algorithm=ssgd --set schedule.bucket_mb=0.05 --set comm.delay_ms=2.0 --set comm.progress=hook
train 3 plain "$@" --set output.trace=false && [ ! -e "$dir/plain/trace.json" ]; ok $? "without output.trace there is no trace.json"
train 3 ssgd "$@" $on --set 'output.trace_steps=[4, 7]'; ok $? "ssgd with a trace"
said 'trace of steps 4 to 7 in .*/ssgd/trace.json'; ok $? "the last lines say where it is"
same plain ssgd; ok $? "the trace changes no bit"
traced ssgd processes=3 'has=compute/step 4' 'has=compute/step 7' 'none=compute/step 3' 'none=compute/step 8' 'has=compute/batch' \
	'has=compute/forward' 'has=compute/conv1' 'has=compute/backward' 'has=compute/wait' 'has=compute/update' 'has=compute/evaluation' \
	'has=phases*/gradient' 'has=phases*/update' 'has=communication/bucket 1' 'has=communication/ring all-reduce' 'has=communication/delay' \
	'flows>=16'
ok $? "it is valid, of the steps asked for, and names what ssgd does"
traced ssgd 'early=bucket 0/layer1*/backward/4'; ok $? "in every step the first bucket leaves before backward has come to the first layers"
traced ssgd 'apart=bucket*/forward'; ok $? "and no bucket while forward does"
train 3 split "$@" $on --set schedule.split=true --set 'output.trace_steps=[4, 7]' && same ssgd split &&
	traced split 'overlap=bucket*/forward/3' 'has=communication/reduce-scatter' 'has=communication/all-gather'
ok $? "with schedule.split some are"
train 3 whole "$@" $on --set schedule.fusion=model --set 'output.trace_steps=[4, 7]' && traced whole 'apart=bucket*/forward' 'has=communication/bucket 0'
ok $? "in one piece there is a single bucket"
train 2 thread --set sync.algorithm=ssgd --set comm.progress=thread $on --set output.trace_steps=4 --set train.max_steps=10 &&
	said 'trace of steps 6 to 9 '
ok $? "a number of steps: the last ones of a short run"
traced thread processes=2 'flows>=8'; ok $? "driven by a thread"

# ---- models ----

set -- --set sync.period=2 --set comm.delay_ms=2.0 --set comm.progress=hook --set train.eval_every=0
train 3 local "$@" --set sync.algorithm=local && train 3 local-trace "$@" --set sync.algorithm=local $on --set 'output.trace_steps=[4, 9]' &&
	same local local-trace
ok $? "local: the trace changes no bit"
traced local-trace 'has=phases*/local steps' 'has=phases*/average' 'has=phases*/adopt the average' 'has=communication/average' \
	'apart=average/forward' 'apart=average/backward'
ok $? "it shows that nothing is computed during the average"
set -- "$@" --set sync.algorithm=cocod
train 3 cocod "$@" && train 3 cocod-trace "$@" $on --set 'output.trace_steps=[4, 9]' && same cocod cocod-trace
ok $? "cocod: the trace changes no bit"
traced cocod-trace 'has=phases*/local steps' 'has=phases*/merge and snapshot' 'has=communication/average' 'overlap=average/forward/2'
ok $? "it shows averages during the local steps that follow"

# ---- compressors, servers, the virtual clock ----

train 3 topk --set sync.algorithm=ssgd --set compress.method=topk $on && train 3 topk-off --set sync.algorithm=ssgd --set compress.method=topk &&
	same topk topk-off && traced topk 'has=communication/select' 'has=communication/all-gather' 'has=communication/add lists'
ok $? "topk: select, all-gather, add"
set -- --set topology.kind=ps
train 3 ps "$@" --set sync.algorithm=ssgd && train 3 ps-trace "$@" --set sync.algorithm=ssgd $on --set 'output.trace_steps=[4, 7]' &&
	same ps ps-trace && traced ps-trace processes=3 'has=requests/all-reduce' 'has=communication/all-reduce by servers' 'has=communication/send' \
	'has=communication/receive' 'none=requests/end'
ok $? "a server's requests are those of the steps traced; no bit changes"
train 3 ssp "$@" --set sync.algorithm=ssp --set sync.staleness=0 $on && traced ssp 'has=requests/push in order' 'has=phases*/push and read'
ok $? "ssp: pushes and reads"
train 3 dry "$@" --set sync.algorithm=ssgd $on --dry-run && [ ! -e "$dir/dry/trace.json" ]; ok $? "a dry run traces nothing"
set -- --set sync.algorithm=cocod --set sync.period=2 --set cluster.clock=virtual
train 3 virtual "$@" && train 3 both "$@" $on && same virtual both && traced both processes=6 'has=communication/average' 'flows>=4'
ok $? "with the virtual clock each rank is there twice"
grep -q 'rank 2, virtual clock' "$dir/both/trace.json"; ok $? "and is named so"
set -- --set cluster.clock=virtual --set train.eval_every=0 --set comm.progress=hook $on --set 'output.trace_steps=[4, 9]'
train 3 hidden "$@" --set sync.algorithm=cocod --set sync.period=2 && traced hidden 'overlap=average/forward/2'
ok $? "averages overlap the next local steps on either clock"
train 3 buckets "$@" --set sync.algorithm=ssgd --set schedule.bucket_mb=0.05 --set comm.delay_ms=50.0 &&
	traced buckets 'early=bucket 0/layer1*/backward/6'
ok $? "first buckets leave before backward has come to the first layers"
train 3 shown "$@" --set sync.algorithm=local --set sync.period=2 && traced shown 'apart=average/forward'; ok $? "an average of local never does"

# ---- every algorithm, every compressor: what begins, ends ----

scripts/algorithms "$program" >"$dir/algorithms"
while read -r algorithm topology; do
	case $topology in ps) ranks_of=4 ;; *) ranks_of=3 ;; esac
	train $ranks_of "$algorithm-all" --set sync.algorithm="$algorithm" --set topology.kind="$topology" --set sync.period=2 --set sync.fragments=2 \
		--set train.epochs=1 $on --set 'output.trace_steps=[0, 5]' </dev/null && traced "$algorithm-all" processes=$ranks_of 'has=compute/step 0' \
		'has=phases*/*'
	ok $? "$algorithm"
done <"$dir/algorithms"
for method in gtopk int8 powersgd gaussian-k threshold randomk oktopk; do
	train 3 $method --set sync.algorithm=ssgd --set compress.method=$method --set train.epochs=1 $on && traced $method 'has=communication/bucket*'
	ok $? "$method"
done

# ---- limits and mistakes ----

train 2 few --set sync.algorithm=ssgd $on --set output.trace_most=50 && said 'the trace is incomplete: [0-9]* of its events' &&
	said 'Set a larger output.trace_most'
ok $? "a full trace is told of"
traced few 'spans<=50' && [ "$(left_out few)" -gt 100 ]; ok $? "it stays as small as it was said, is valid, and says itself what is missing"
[ "$(left_out ssgd)" = 0 ]; ok $? "others say that nothing is"
train 1 one $on && traced one processes=1 'has=compute/forward'; ok $? "one worker"
train 2 late $on --set 'output.trace_steps=[500, 519]' && said 'before the first one to be traced'; ok $? "steps that never come are told of"
for steps in 0 '[7]' '[9, 8]' '[1, 2, 3]'; do
	train 1 refused $on --set "output.trace_steps=$steps"
	[ $? = 2 ] && said 'neither a number of steps nor' && said 'hint: .*output.trace_steps = 20'; ok $? "output.trace_steps = $steps is refused"
done

ended
