#!/bin/sh
# Whole runs on the emulated GPU, as TAP: kernels, graphs, streams and both transports of the CUDA device, trained with.

cd "$(dirname "$0")/.." || exit 1
: "${BUILD:?}"
program=$BUILD/cocod-train
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export COCOD_BACKEND="${COCOD_BACKEND:-$PWD/$BUILD/emulated/libcocod-cuda.so}"
dir=$(mktemp -d) || exit 1
export XDG_CACHE_HOME="$dir/cache"
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
count=0 failed=0

ok() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
		tail -n 8 "$dir/log" | sed 's/^/# /'
	fi
}

cat >"$dir/run.cfg" <<'END'
model = { name = "resnet20"; width = 0.25; };
data = { name = "synthetic"; images = 512; test_images = 100; };
train = { epochs = 10.0; max_steps = 9; batch = 12; seed = 3; };
optimizer = { lr = 0.05; };
device = { kind = "cuda"; threads = 1; };
output = { log_every = 2; tensorboard = false; overwrite = true; predict = false; };
END

train() {
	ranks=$1 name=$2
	shift 2
	run=
	[ "$ranks" = 1 ] || run="mpirun -np $ranks --oversubscribe --bind-to none"
	# shellcheck disable=SC2086
	ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" timeout 900 $run "$program" --set output.dir="\"$dir/$name\"" "$@" "$dir/run.cfg" >"$dir/log" 2>&1
}
value() { sed -n "s/.*\"$2\": \"*\([^\",]*\).*/\1/p" "$dir/$1/summary.json"; }
same() { [ -n "$(value "$1" params_sha256)" ] && [ "$(value "$1" params_sha256)" = "$(value "$2" params_sha256)" ]; }
# close A B: final training losses within 2 %
close() { awk "BEGIN { a = $(value "$1" final_train_loss); b = $(value "$2" final_train_loss); exit !(a > 0 && (a - b) ^ 2 <= (0.02 * b) ^ 2) }"; }

train 1 fp32 --set device.precision=fp32; ok $? "one worker trains in fp32"
train 1 again --set device.precision=fp32 && same fp32 again; ok $? "a run repeats to the bit"
train 1 plain --set device.precision=fp32 --set device.graphs=false && same fp32 plain; ok $? "recorded passes give the bits of queued ones"
train 1 often --set device.precision=fp32 --set train.eval_every=0.03 && same fp32 often; ok $? "evaluation changes nothing"
train 1 cpu --set device.kind=cpu && close fp32 cpu; ok $? "the CPU comes to the same loss"
train 1 bf16 && close bf16 fp32; ok $? "bf16, the default, comes near it"
grep -q bf16 "$dir/log"; ok $? "and says that it is bf16"
train 1 traced --set device.precision=fp32 --set output.trace=true && same fp32 traced && grep -q 'are not recorded and replayed' "$dir/log" &&
	"$BUILD/test/trace_check" "$dir/traced/trace.json" processes=1 'has=compute/backward' 'has=compute/conv1' >"$dir/log"
ok $? "a trace changes no bit, says that it queues passes, and shows their layers"
set -- --set sync.algorithm=ssgd --set comm.transport=mpi --set output.trace=true
train 2 both "$@" && "$BUILD/test/trace_check" "$dir/both/trace.json" processes=2 'has=communication/bucket 0' 'has=compute/wait' 'flows>=2' >"$dir/log"
ok $? "of two workers, too"
set -- --set sync.algorithm=ssgd --set compress.method=int8
train 2 silent "$@" && train 2 forecast "$@" --set output.predict=true && grep -q '^\* int8' "$dir/log" && same silent forecast
ok $? "a forecast leaves no trace on the GPU"
for sync in ssgd local cocod; do
	for compress in none topk gtopk powersgd; do
		set -- --set sync.algorithm=$sync --set compress.method=$compress --set device.precision=fp32 --set optimizer.warmup_epochs=0.0
		[ $sync = ssgd ] || set -- "$@" --set sync.period=2
		train 2 "$sync-$compress" "$@" && train 2 cpu "$@" --set device.kind=cpu && close "$sync-$compress" cpu
		ok $? "two workers share the GPU: $sync with $compress, as on the CPU"
	done
done
grep -q 'share' "$dir/ssgd-none/rank-000.log" || train 2 shared --set device.precision=fp32 && grep -q 'transport  mpi.*share' "$dir/log"
ok $? "it is said why messages go by MPI"
train 2 delay --set sync.algorithm=local --set sync.period=2 --set comm.delay_ms=40 --set device.precision=fp32 &&
	awk "BEGIN { exit !($(value delay comm_ms) >= 10 && $(value delay exposed_ms) >= 10) }"
ok $? "what Local SGD waits for is accounted for"
train 2 order --set sync.algorithm=ssgd --set device.graphs=false --set device.precision=fp32
train 2 graph --set sync.algorithm=ssgd --set schedule.bucket_mb=0.1 --set device.precision=fp32 && train 2 order --set sync.algorithm=ssgd \
	--set schedule.bucket_mb=0.1 --set device.graphs=false --set device.precision=fp32 && same graph order
ok $? "buckets leave between recorded pieces: the same bits"
set -- --set sync.algorithm=ssgd --set schedule.fusion=mg-wfbp --set device.precision=fp32
train 2 plan "$@" && train 2 planned "$@" --set "schedule.facts=\"$dir/plan/schedule.txt\"" && same plan planned
ok $? "buckets by measured times, and by the same times given: the same bits"
train 2 split --set sync.algorithm=ssgd --set schedule.bucket_mb=0.1 --set schedule.split=true --set device.precision=fp32 && same graph split
ok $? "and arrive between recorded pieces of the next forward (schedule.split): the same bits"
train 2 order --set sync.algorithm=ssgd --set schedule.bucket_mb=0.1 && train 2 split --set sync.algorithm=ssgd --set schedule.bucket_mb=0.1 \
	--set schedule.split=true && same order split
ok $? "in bf16 as well: a bucket's update renews its bf16 copy"
train 2 split --set sync.algorithm=ssgd --set schedule.bucket_mb=0.1 --set schedule.priority=true && same order split
ok $? "and if the most urgent go first (schedule.priority)"
set -- --set data.partition=dirichlet --set 'train.batch=[8, 16]' --set device.precision=fp32
train 2 skewed "$@" && train 2 slowed "$@" --set 'cluster.slowdown=[1, 2]' && same skewed slowed && grep -q 'slowed down x 2' "$dir/log"
ok $? "workers with images of their own; a slower one changes no bit"
train 2 cpu "$@" --set device.kind=cpu && close skewed cpu; ok $? "and the CPU draws the same images"
train 2 speeds --set train.batch=proportional --set train.batch_mean=12 --set 'cluster.slowdown=[1, 4]' && grep -q 'measured just now' "$dir/log"
ok $? "batches by measured speed: $(value speeds batch_total) images a step"
for sync in ssgd cocod; do
	set -- --set cluster.clock=virtual --set cluster.compute.images_per_s=1000.0 --set schedule.bucket_mb=0.02 --set sync.algorithm=$sync \
		--set sync.period=2 --set train.max_steps=5 --set comm.delay_ms=40 --set cluster.inter.gbit_per_s=0.1 --set cluster.intra.gbit_per_s=0.1 --set device.precision=fp32
	train 2 cpu "$@" --set device.kind=cpu && train 2 clock "$@" && [ "$(value clock virtual_exposed_ms)" != 0 ] &&
		[ "$(value clock virtual_s)" = "$(value cpu virtual_s)" ] && [ "$(value clock virtual_exposed_ms)" = "$(value cpu virtual_exposed_ms)" ]
	ok $? "$sync takes the same virtual time as on the CPU, to the digit: $(value clock virtual_s) s"
	train 2 wall "$@" --set cluster.clock=wall && same wall clock; ok $? "and the bits that it has on the wall clock, with recorded passes"
done
train 2 nccl --set comm.transport=nccl; [ $? = 2 ] && grep -q 'comm.transport' "$dir/log"; ok $? "NCCL with a shared GPU is refused, with the remedy"
COCOD_BACKEND=/none/libcocod-cuda.so train 1 none; [ $? = 1 ] && grep -q 'device "cuda"' "$dir/log"; ok $? "no backend: one message, status 1"
train 1 cpu --set device.kind=cpu --set device.precision=bf16; [ $? = 2 ] && grep -q 'fp32 only' "$dir/log"; ok $? "bf16 on the CPU is refused"
COCOD_BACKEND=/none/libcocod-cuda.so train 1 auto --set device.kind=auto && grep -q 'the CPU will compute' "$dir/log"
ok $? "auto falls back to the CPU and says so"
echo "1..$count"
[ $failed = 0 ]
