#!/bin/sh
# Nothing allocates after the first step: a run of 40 steps asks for memory exactly as often as one of 4. Counted are the calls of
# the program's own code; evaluation happens once, at the end, in both.
set -u
cd "$(dirname "$0")/.." || exit 1
program=${BUILD:-build/gcc-dnnl}/cocod-train
if [ "${ASAN:-0}${TSAN:-0}" != 00 ]; then
	echo "ok 1 - allocations # SKIP the sanitizers own malloc"
	echo "1..1"
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat >"$dir/run.cfg" <<END
model = { name = "resnet18"; width = 0.25; };
data = { name = "synthetic"; images = 320; test_images = 40; size = 16; };
train = { epochs = 100; batch = 8; eval_every = 0; };
compress = { density = 0.05; };
device = { threads = 1; };
output = { overwrite = true; log_every = 2; predict = false; };   # a warning more or less is no allocation of a step
END
${CC:-cc} -D_GNU_SOURCE -O1 -fPIC -shared -o "$dir/count.so" test/count_alloc.c || exit 1

# counts STEPS [OPTIONS]: the sorted counts of the two ranks
counts() {
	steps=$1
	shift
	rm -f "$dir/count"
	mpirun -np 2 --oversubscribe --bind-to none -x LD_PRELOAD="$dir/count.so" -x COUNT_ALLOC="$dir/count" "$program" \
		--set train.max_steps="$steps" --set output.dir="\"$dir/run\"" "$@" "$dir/run.cfg" >"$dir/log" 2>&1 || sed 's/^/# /' "$dir/log" >&2
	sort -n "$dir/count" | tr '\n' ' '
}

count=0 failed=0
# equal WHAT [OPTIONS]
equal() {
	what=$1
	shift
	short=$(counts 4 "$@") long=$(counts 40 "$@")
	count=$((count + 1))
	if [ -n "$short" ] && [ "$short" = "$long" ]; then
		echo "ok $count - $what: $long allocations on the two ranks in 4 and in 40 steps"
	else
		echo "not ok $count - $what: $short allocations in 4 steps, $long in 40"
		failed=1
	fi
}

for algorithm in ssgd local cocod; do
	for method in topk gtopk powersgd; do
		equal "$algorithm with $method" --set sync.algorithm=$algorithm --set compress.method=$method
	done
done
for method in int8 onebit signsgd randomk threshold gaussian-k dgc oktopk hierarchical; do
	equal "ssgd with $method" --set sync.algorithm=ssgd --set optimizer.momentum=0 --set compress.method=$method --set compress.dense_steps=2
done
for schedule in split priority; do
	equal "ssgd with schedule.$schedule" --set sync.algorithm=ssgd --set schedule.$schedule=true --set schedule.bucket_mb=0.1 --set schedule.slice_mb=0.05
done
scripts/algorithms "$program" >"$dir/algorithms"
while read -r algorithm topology; do
	equal "$algorithm" --set sync.algorithm="$algorithm" --set topology.kind="$topology" --set sync.period=2 --set sync.fragments=2 </dev/null
done <"$dir/algorithms"
equal "layers asleep" --set sync.algorithm=ssgd --set compress.method=topk --set cluster.compute.sleep=true --set cluster.compute.images_per_s=4000.0
equal "ssgd over a server" --set sync.algorithm=ssgd --set topology.kind=ps
echo "1..$count"
exit $failed
