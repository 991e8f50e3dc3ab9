# What the tests of whole runs share: sourced first, from any folder. A run leaves $dir/NAME, and what it said in $dir/log. TAP.
# shellcheck shell=sh
set -u
cd "$(dirname "$0")/.." || exit 1
program=${BUILD:-build/gcc-dnnl}/cocod-train
dir=$(mktemp -d)
config=$dir/run.cfg
trap 'rm -rf "$dir"' EXIT INT TERM
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS=1
count=0 failed=0

ok() {  # ok STATUS WHAT
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		failed=$((failed + 1))
		cat "$dir/log" "$dir/err" 2>/dev/null | sed 's/^/# /' | tail -n 16
	fi
}

# At the end: the plan, and the exit status.
ended() {
	echo "1..$count"
	[ $failed = 0 ] || echo "# $failed of $count failed"
	exit $((failed > 0))
}

# small WIDTH [GROUP…]: the config of the runs, a small network on 320 made-up images, with these groups of keys added
small() {
	cat >"$config" <<END
model = { name = "resnet20"; width = $1; };
data = { name = "synthetic"; images = 320; test_images = 70; size = 16; };
train = { epochs = 2; batch = 16; eval_every = 1; };
optimizer = { lr = 0.05; };
device = { threads = 1; };
output = { overwrite = true; log_every = 3; };
END
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$config"
}

# train RANKS NAME [OPTIONS]: exit status of the run
train() {
	ranks=$1 name=$2
	shift 2
	set -- --set output.dir="\"$dir/$name\"" "$@" "$config"
	if [ "$ranks" = 1 ]; then
		timeout 300 "$program" "$@" >"$dir/log" 2>&1
	else
		ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" timeout 900 mpirun -np "$ranks" --oversubscribe --bind-to none \
			--mca mpi_yield_when_idle 1 "$program" "$@" >"$dir/log" 2>&1            # MPI leaks, by design
	fi
}

said() { grep -q "$1" "$dir/log"; }
# value NAME KEY: of summary.json; a string without its quotes
value() { sed -n "s/.*\"$2\": \"*\([^\"]*[^\",]\)\"*,*$/\1/p" "$dir/$1/summary.json"; }
same() { [ -n "$(value "$1" params_sha256)" ] && [ "$(value "$1" params_sha256)" = "$(value "$2" params_sha256)" ]; }
differ() { [ -n "$(value "$1" params_sha256)" ] && [ -n "$(value "$2" params_sha256)" ] && ! same "$1" "$2"; }
