#!/bin/sh
# scripts/figures: tables and picture of CoCoD's speed-up, from made-up runs whose steps to a loss and times are known. TAP.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
figures=scripts/figures

# made NAME LOSS_A_STEP VIRTUAL_S: 20 steps; both are awk expressions, of the step t
made() {
	mkdir -p "$dir/$1"
	awk "BEGIN { print \"step,loss,virtual_s\"; for (t = 1; t <= 20; t++) printf \"%d,%.6f,%.6f\\n\", t, 10 - ($2), $3 }" \
		>"$dir/$1/metrics.csv"
}

# A step computes for 100 ms, the period is 2. Beyond ratio 2 CoCoD waits from its second exchange on.
for r in 1 4; do
	made "ssgd-$r-1" 't / 2' "t * (0.1 + 0.1 * $r)"
	made "buckets-$r-1" 't / 2' "t * (0.06 + 0.1 * $r)"
	made "local-$r-1" 't / 3' "t * 0.1 + int(t / 2) * 0.1 * $r"
done
made cocod-1-1 't / 4' 't * 0.1'
made cocod-4-1 't / 4' 't * 0.1 + (t < 4 ? 0 : int(t / 2) - 1) * 0.2'

tables() {
	set --
	for r in 1 4; do
		for a in ssgd buckets local cocod; do
			set -- "$@" "$dir/$a-$r-1/metrics.csv"
		done
	done
	awk -v period=2 -v step_ms=100 -v window=2 -v band='0.75 1.75' -v points="$dir/points" -f $figures/cocod-speedup.awk "$@" \
		>"$dir/log" 2>"$dir/errors"
}
has() { grep -qxF "$1" "$dir/log"; }

tables
ok $? 'tables are made of runs'
has '| 1 | 200.0 | 160.0 | 150.0 | 100.0 | 2.00 (2.00) | 1.60 (1.33) | 1.50 (1.50) |'
ok $? 'a step: times and speed-ups, beside the formulas'
has '| 4 | 500.0 | 460.0 | 300.0 | 200.0 | 2.50 (2.50) | 2.30 (2.17) | 1.50 (1.50) |'
ok $? 'also where CoCoD waits: from its second exchange on'
grep -qF 'To a loss of 5.13 (mean of 2 steps): 11 steps of S-SGD, 16 of Local SGD, 20 of CoCoD-SGD: 1.82 and 1.25 times as many.' "$dir/log"
ok $? 'the loss that all reach, and how many steps each of them takes'
has '| 1 | 2.20 | 1.76 | 2.40 | 2.00 | 1.10 (1.10) | 0.88 (0.73) | 1.20 (1.20) |'
ok $? 'to the same loss'
has '| 4 | 5.50 | 5.06 | 4.80 | 3.80 | 1.45 (1.38) | 1.33 (1.19) | 1.26 (1.20) |'
ok $? 'also where CoCoD waits: its first period does not'

awk -f $figures/curves.awk "$dir/points" >"$dir/figure.svg"
ok $? 'a figure is made of points'
! grep -qi 'nan\|inf' "$dir/figure.svg" && [ "$(grep -c '<polyline' "$dir/figure.svg")" = 6 ] &&
	[ "$(grep -c '<circle' "$dir/figure.svg")" = $((2 * 3 * 2 + 3)) ]
ok $? 'with six curves of the formulas, all points and a legend'
grep -qF '<circle cx="255.0" cy="241.4" r="4" fill="#1f5fa8"/>' "$dir/figure.svg"
ok $? 'a point stands where it belongs'

made ssgd-4-1 't / 2' 't * 0.508'
! tables && grep -q 'T_comm / T_comp is 4.08 on the clock, not 4' "$dir/errors"
ok $? 'a clock that has kept another T_comm is noticed'
ended
