#!/bin/sh
# test_cuda_comm.c on several ranks of the emulated GPU, and NCCL's watchdog: whoever does not come, or is gone, ends the run with
# status 5 and a sentence, not with silence. TAP.

cd "$(dirname "$0")/.." || exit 1
: "${BUILD:?}"
program=$BUILD/test/test_cuda_comm
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export COCOD_BACKEND="${COCOD_BACKEND:-$PWD/$BUILD/emulated/libcocod-cuda.so}"
if ! command -v mpirun >/dev/null 2>&1; then
	echo "1..0 # SKIP there is no mpirun"
	exit 0
fi
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
count=0 failed=0

verdict()       # HOLDS CLAIM
{
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
		grep -v '^ok' "$out" | tail -n 12 | sed 's/^/# /'
	fi
}

start()         # RANKS VARIABLE=VALUE ARGUMENT…
{
	ranks=$1 setting=$2
	shift 2
	ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" timeout 300 env "$setting" mpirun -np "$ranks" --oversubscribe --bind-to none \
		--mca btl self,vader --mca mpi_yield_when_idle 1 "$program" "$@" >"$out" 2>&1 </dev/null
}

passes()        # RANKS VARIABLE=VALUE CLAIM
{
	start "$1" "$2" && ! grep -q '^not ok' "$out" && grep -q '^1\.\.[1-9]' "$out"
	verdict $? "$1 ranks: $(grep -c '^ok' "$out") claims hold$3"
}

ends()          # RANKS VARIABLE=VALUE ARGUMENT WORDS CLAIM
{
	start "$1" "$2" "$3"
	[ $? = 5 ] && grep -q "$4" "$out"
	verdict $? "$5"
}

passes 2 A=a ""
passes 3 A=a ""
passes 4 A=a ""
passes 3 EMULATOR_SHUFFLE=5 ", the emulator in disorder"
passes 2 NCCL_COMM_BLOCKING=0 ", NCCL's calls return before they have queued anything"
ends 3 A=a hang 'rank [01] of 3.*all-reduce of 4000 bytes (operation 1028) takes longer than 2.5 s' "a rank that hangs: the others' watchdog ends the run; delays, idle time and late ranks are no hangs"
ends 2 A=a absent 'rank 0 of 2.*start of the communicator takes longer than 2.5 s' "a rank that never comes: likewise"
ends 2 EMULATOR_NCCL_FAIL=2 hang 'remote process exited' "a connection that breaks: NCCL's own error ends the run at once"
echo "1..$count"
[ $failed = 0 ]
