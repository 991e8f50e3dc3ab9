#!/bin/sh
# The program as a user runs it: whole trainings on tiny synthetic sets, by what they leave behind. Fingerprints of the parameters
# (params_sha256) tell whether two runs did the same arithmetic to the last bit.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.5

# ---- what a run leaves behind ----

train 1 one; ok $? "one worker trains"
for file in config.cfg metrics.csv eval.csv summary.json rank-000.log; do
	[ -s "$dir/one/$file" ]; ok $? "it leaves $file"
done
ls "$dir/one"/events.out.tfevents.* >/dev/null 2>&1; ok $? "it leaves an event file for TensorBoard"
head -n 1 "$dir/one/metrics.csv" | grep -qx 'step,epoch,loss,accuracy,lr,images_per_s,compute_ms,comm_ms,exposed_ms,bytes_sent,wall_s,virtual_s'
ok $? "metrics.csv has the documented columns"
head -n 1 "$dir/one/eval.csv" | grep -qx 'epoch,step,test_loss,test_accuracy,wall_s,virtual_s'; ok $? "eval.csv has the documented columns"
[ "$(tail -n 1 "$dir/one/metrics.csv" | cut -d, -f1)" = 40 ]; ok $? "the last row of metrics.csv is the last step"
[ "$(wc -l <"$dir/one/eval.csv")" = 3 ]; ok $? "eval.csv has a row for each evaluation"
missing=
for key in algorithm model dataset world_size steps samples epochs final_train_loss final_test_accuracy best_test_accuracy images_per_s \
	bytes_sent_per_step compute_ms comm_ms exposed_ms hidden_fraction wall_s virtual_s peak_memory_mb params_sha256; do
	grep -q "\"$key\":" "$dir/one/summary.json" || missing="$missing $key"
done
[ -z "$missing" ]; ok $? "summary.json has every documented key$missing"
"$program" --set output.dir="\"$dir/again\"" "$dir/one/config.cfg" >"$dir/log" 2>&1 && same one again
ok $? "the config.cfg of a run gives the same run again, bit for bit"
awk -F, 'NR == 2 { first = $3 } END { exit !($3 < first) }' "$dir/one/metrics.csv"; ok $? "the loss falls"

# ---- what must not change a bit ----

train 1 noeval --set train.eval_every=0 && same one noeval; ok $? "evaluation on or off"
train 1 noprefetch --set data.prefetch=0 && same one noprefetch; ok $? "loader with or without its thread"
set -- --set sync.algorithm=ssgd --set schedule.bucket_mb=0.05
train 3 whole "$@" && train 3 split "$@" --set schedule.split=true --set comm.progress=hook && same whole split
ok $? "all-reduces at once, or half of each during the next forward (schedule.split)"
train 3 thread "$@" --set schedule.split=true --set comm.progress=thread --set train.eval_every=0 && same whole thread
ok $? "schedule.split driven by a thread, without evaluations"
train 3 urgent "$@" --set schedule.priority=true --set comm.progress=hook && same whole urgent
ok $? "or the most urgent of them first (schedule.priority)"
train 3 few "$@" --set schedule.priority=true --set schedule.slice_mb=0.01 --set schedule.backward_share=0.1 &&
	train 3 many "$@" --set schedule.priority=true --set schedule.slice_mb=0.01 --set schedule.backward_share=2.0 --set comm.progress=thread \
	--set train.eval_every=0 && same few many
ok $? "in slices, in whatever order"
for algorithm in ssgd local cocod; do
	for method in none topk gtopk powersgd; do
		set -- --set sync.algorithm=$algorithm --set compress.method=$method --set compress.density=0.05
		train 3 hook "$@" --set comm.progress=hook
		ok $? "$algorithm with $method trains on three workers"
		train 3 thread "$@" --set comm.progress=thread --set train.eval_every=0 && same hook thread
		ok $? "$algorithm with $method: driven by hook or thread, evaluation on or off"
	done
done
for method in bf16 int8 natural onebit signsgd; do
	set -- --set sync.algorithm=ssgd --set compress.method=$method --set compress.scale=0.01
	train 3 hook "$@" --set comm.progress=hook && train 3 thread "$@" --set comm.progress=thread --set train.eval_every=0 && same hook thread
	ok $? "ssgd with $method: trains, driven by hook or thread, evaluation on or off"
done
set -- --set sync.algorithm=ssgd --set compress.method=hierarchical --set compress.density=0.05
train 4 nodes "$@" --set cluster.workers_per_node=2 && said '^  *2 nodes of 2 workers (as the hier' && ! said '^warning: compress.method'
ok $? "hierarchical top-k takes the cluster's nodes, and says so"
train 4 groups "$@" --set compress.group=2 && said '^  *2 nodes of 2 workers (compress.group)' && same nodes groups
ok $? "  the same as groups of two"
said '^warning: compress.method = "hierarchical": compress.group = 2 puts workers'; [ $? = 1 ]; ok $? "  on one host nobody has to be warned of them"
train 4 host "$@" && said '1 node of 4 workers' && said 'finds all 4 workers on one node' && differ nodes host
ok $? "  or the hosts; of a single one it warns"
train 3 refused "$@" --set compress.group=2; [ $? = 2 ] && said 'does not divide 3 workers'
ok $? "  groups that do not divide the workers are refused"
# Every algorithm; those that go by measured times need not repeat.
scripts/algorithms "$program" >"$dir/algorithms"
while read -r algorithm topology; do
	case $algorithm in ssgd | local | cocod) continue ;; esac
	case $topology in ps) ranks_of=4 ;; *) ranks_of=3 ;; esac
	set -- --set sync.algorithm="$algorithm" --set topology.kind="$topology" --set sync.period=3 --set sync.fragments=2
	train $ranks_of hook "$@" --set comm.progress=hook </dev/null
	ok $? "$algorithm trains on three workers"
	train $ranks_of thread "$@" --set comm.progress=thread --set train.eval_every=0 </dev/null
	status=$?
	case $algorithm in adpsgd | adaptive | ssp | asp) ;; *) same hook thread || status=1 ;; esac
	ok $status "$algorithm: driven by hook or thread, evaluation on or off"
done <"$dir/algorithms"
# At its own pace: the steps of each are the last column of the last table.
steps() { sed -n "s/^ *rank $1 .* \([0-9]*\)$/\1/p" "$dir/log" | tail -n 1; }
within() { awk -v mean="$1" -v sum="$2" 'BEGIN { exit !(3 * mean > sum - 1e-3 && 3 * mean < sum + 1e-3) }'; }
train 3 pace --set output.log_every=1 --set sync.algorithm=adpsgd --set topology.kind=gossip --set 'cluster.slowdown=[1.0, 1.0, 16.0]'
ok $? "adpsgd beside a slow worker"
set -- "$(steps 0)" "$(steps 1)" "$(steps 2)"
[ $((3 * $3)) -lt $((2 * $1)) ] && [ "$(value pace samples)" = $((16 * ($1 + $2 + $3))) ] && within "$(value pace steps)" "$(($1 + $2 + $3))" &&
	[ "$(value pace samples)" -ge 576 ] && [ "$(value pace samples)" -le 720 ]
ok $? "  takes $1 and $2 steps, it $3: $(value pace samples) samples of 576"
awk -F, -v last="$1" 'END { exit !($1 == last && $2 == 2) }' "$dir/pace/metrics.csv"
ok $? "  the last row of metrics.csv is the last step"
train 2 late --set sync.algorithm=cocod --set comm.delay_ms=30 && train 2 early --set sync.algorithm=cocod && same late early
ok $? "a slow network"
# The log of a run that measures its period gives the same run again.
train 2 measured --set sync.algorithm=adaptive --set sync.every=1 --set sync.period_max=4 --set comm.delay_ms=250
ok $? "a period that is measured"
periods=$(sed 1d "$dir/measured/decisions.csv" 2>/dev/null | cut -d, -f3 | paste -sd,)
case $periods in 1,*[2-4]*) true ;; *) false ;; esac && head -n 1 "$dir/measured/decisions.csv" | grep -qx 'step,what,value,why'
ok $? "decisions.csv has them in the documented columns, and they grow beyond 1: $periods"
train 2 replayed --set sync.algorithm=adaptive --set sync.every=1 --set "sync.periods=[$periods]" && same measured replayed
ok $? "the same periods, replayed: the same bits"
train 3 unequal --set 'train.batch=[8, 16, 24]' && train 3 unequal2 --set 'train.batch=[8, 16, 24]' && same unequal unequal2
ok $? "unequal batches, repeated"

# ---- messages planned by measured times ----

set -- --set sync.algorithm=ssgd --set schedule.fusion=mg-wfbp
facts() { echo "schedule.facts=\"$dir/$1\""; }
train 3 plan "$@" && grep -q '59 tensors in [0-9]* message' "$dir/log" && grep -q 'predicted: backward [0-9.]* ms, then [0-9.]* exposed' "$dir/log"
ok $? "mg-wfbp trains on three workers, and tells its plan"
plans=$(sed -n 's/^schedule mg-wfbp.*; buckets//p' "$dir"/plan/rank-00?.log | sort | uniq -c)
[ "$(echo "$plans" | awk '{ print $1 }')" = 3 ]; ok $? "  the same in every rank's log"
train 3 planned "$@" --set "$(facts plan/schedule.txt)" && same plan planned && cmp -s "$dir/plan/schedule.txt" "$dir/planned/schedule.txt"
ok $? "  what was measured, given: the same bits, and nothing of the measuring is in them"
sed 's/^latency .*/latency 10/' "$dir/plan/schedule.txt" >"$dir/dear.txt"
train 3 dear "$@" --set "$(facts dear.txt)" && train 3 model --set sync.algorithm=ssgd --set schedule.fusion=model && same dear model
ok $? "  were messages dear, the plan would be that of \"model\", to the bit"
train 2 pieces "$@" --set compress.method=topk --set compress.scope=bucket; ok $? "  with a compressor for each bucket"
train 2 pipe "$@" --set sync.algorithm=pipe; ok $? "  and with pipe"
train 1 single "$@" && grep -q 'one worker has nothing to plan' "$dir/log"; ok $? "  one worker plans nothing"
train 2 dryplan "$@" --dry-run && grep -q 'tensors in' "$dir/log" && [ ! -e "$dir/dryplan" ]; ok $? "  --dry-run tells the plan, too"
train 2 nofacts "$@" --set "$(facts nowhere.txt)"; [ $? = 2 ] && [ "$(grep -c 'error:' "$dir/log")" = 1 ] && grep -q 'No such file' "$dir/log"
ok $? "  facts that are not there: one message, status 2"
sed 's/^fc.weight/fc.weights/' "$dir/plan/schedule.txt" >"$dir/other.txt"
train 2 nofacts "$@" --set "$(facts other.txt)"; [ $? = 2 ] && grep -q 'line 6: fc.weight is not there' "$dir/log"; ok $? "  nor those of another model"
train 2 models "$@" --set sync.algorithm=cocod; [ $? = 2 ] && grep -q 'hint: set schedule.fusion' "$dir/log"
ok $? "  and an algorithm that sends models has no use for it"

# ---- how it ends when it cannot go on ----

train 2 nan --set optimizer.lr=1000.0 --set optimizer.weight_decay=1.0 --set output.log_every=1; [ $? = 4 ]; ok $? "a loss that is not a number ends all ranks with status 4"
train 1 one --set output.overwrite=false; [ $? = 2 ] && grep -q 'holds an earlier run' "$dir/log"; ok $? "a used directory is refused"
train 2 size --set world_size=3; [ $? = 2 ] && grep -q 'world_size = 3' "$dir/log"; ok $? "another world_size than asked for is refused"
train 2 alone --set comm.transport=self; [ $? = 5 ] && grep -q 'side by side' "$dir/log"; ok $? "soloists under mpirun are refused"
train 2 big --set train.batch=1000; [ $? = 2 ] && grep -q 'one step of all workers takes 2000 images' "$dir/log"
ok $? "batches larger than the data set are refused"
train 2 list --set 'train.batch=[8, 8, 8]'; [ $? = 2 ] && grep -q 'lists 3 batch sizes' "$dir/log"
ok $? "a list of batch sizes of another length is refused"
train 2 nodata --set data.name=cifar10 --set data.dir="\"$dir/nowhere\""
[ $? = 3 ] && [ "$(grep -c '^.*error:' "$dir/log")" = 1 ]; ok $? "missing data: one message, status 3"
if [ "$(id -u)" != 0 ]; then
	mkdir -m 555 "$dir/locked"
	train 1 locked/in; [ $? = 1 ]; ok $? "a directory that cannot be made: status 1"
fi
if [ -e /dev/full ]; then
	mkdir -p "$dir/full" && ln -sf /dev/full "$dir/full/metrics.csv"
	train 1 full; [ $? = 1 ] && grep -q 'No space left' "$dir/log"; ok $? "a full disk is said so, status 1"
fi

# ---- dry run ----

train 1 dry --dry-run; ok $? "--dry-run"
[ ! -e "$dir/dry" ] && grep -q 'nothing was trained' "$dir/log" && grep -q '1024' "$dir/log"
ok $? "it predicts up to 1024 workers and leaves nothing behind"
train 2 far --dry-run --set sync.algorithm=diloco && grep -q '^warning: .*after 500 steps, and the run has 20' "$dir/log"
ok $? "a period longer than the run is warned of"
train 1 far --dry-run --set sync.algorithm=diloco && ! grep -q '^warning: .*after 500' "$dir/log"; ok $? "  but not one worker alone"

ended
