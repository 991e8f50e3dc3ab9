# What the tables of this folder and scripts/figures share; sourced. Options, trainings that are not repeated once they are finished, rows of
# a table. The training: resnet20 on 10,000 images of CIFAR-10, 3 epochs of SGD, S-SGD's learning rate.
# shellcheck shell=sh
#
# Sourced with $usage (the lines of the script's head that are its help) set; $rows: the parts of its table; $own: further options that set a
# variable of that name. Sets dir self seeds workers list. How ranks are started, launch(), may be another one afterwards.
set -eu
self=scripts/$(basename "$(cd "$(dirname "$0")" && pwd)")/$(basename "$0")
cd "$(dirname "$0")/../.."
seeds='1 2 3' workers=4 minutes='' again='' plan='' sets='' list=''
usage() { sed -n 's/^# \{0,1\}//; '"$usage" "$self" >&2; exit 2; }
for argument; do
	case $argument in
	--dir=*) dir=${argument#*=} ;;
	--list=*) list=${argument#*=} ;;
	--seeds=*) seeds=${argument#*=} ;;
	--workers=*) workers=${argument#*=} ;;
	--minutes=*) minutes=${argument#*=} ;;
	--rows=*) rows=${argument#*=} ;;
	--again) again=1 ;;
	--plan) plan=1 ;;
	--*=*)
		name=${argument%%=*}
		case " ${own:-} " in *" ${name#--} "*) eval "${name#--}=\${argument#*=}" ;; *) usage ;; esac
		;;
	-*) usage ;;
	*=*) sets="$sets
$argument" ;;
	*) echo "$argument is neither an option nor KEY=VALUE" >&2; exit 2 ;;
	esac
done
[ -x ./cocod-train ] || make -s
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mkdir -p "$dir"
began=$(date +%s) longest=0 left=0 failed=0

has_row() { case ,$rows, in *,"$1",*) return 0 ;; *) return 1 ;; esac; }

launch() {      # RANKS PROGRAM…
	mpirun --oversubscribe --bind-to none -np "$@"
}

# Would a run that takes as long as the longest so far end in time?
in_time() { [ -z "$minutes" ] || [ $(($(date +%s) - began + longest)) -lt $((60 * minutes)) ]; }

# A run that diverges is a result; one that ends otherwise is a failure.
count_failure() { [ "$(head -n 1 "$run.failed")" = 4 ] || failed=$((failed + 1)); }

# train NAME SEED RANKS [KEY=VALUE…]: unless it is done. DIR/NAME-SEED/summary.json says that it is.
train() {
	run=$dir/$1-$2 seed=$2 ranks=$3
	shift 3
	[ ! -f "$run/summary.json" ] || return 0
	if [ -f "$run.failed" ] && [ -z "$again" ]; then
		count_failure
		return
	fi
	if [ -n "$plan" ] || ! in_time; then
		[ -z "$plan" ] || echo "$run: $*"
		left=$((left + 1))
		return
	fi
	set -- model.name=resnet20 model.width=1.0 data.name=cifar10 data.dir="\"${COCOD_DATA:-datasets}\"" data.images=10000 train.epochs=3 \
		train.batch=32 train.batch_mean=32 train.eval_every=0 optimizer.name=sgd optimizer.lr=0.05 optimizer.momentum=0.9 \
		optimizer.weight_decay=1e-4 optimizer.schedule=cosine optimizer.warmup_epochs=0.5 sync.period=4 compress.method=none "$@" \
		train.seed="$seed" output.dir="\"$run\"" output.overwrite=true
	old=$IFS
	IFS='
'
	# shellcheck disable=SC2086
	set -- "$@" $sets
	IFS=$old
	for pair; do
		shift
		set -- "$@" --set "$pair"
	done
	echo "# $run" >&2
	start=$(date +%s) status=0
	launch "$ranks" ./cocod-train "$@" cocod.cfg.example >"$run.log" 2>&1 || status=$?
	took=$(($(date +%s) - start))
	[ $took -le $longest ] || longest=$took
	rm -f "$run.failed"
	[ $status -ne 0 ] || { rm -f "$run.log"; return 0; }
	[ $status -lt 128 ] || exit $status             # interrupted
	{ echo $status; grep -m 1 'error:\|the loss became' "$run.log" || tail -n 1 "$run.log"; } >"$run.failed"
	count_failure
	echo "# status $status, see $run.log" >&2
}

value() { sed -n "s/.*\"$2\": \"*\([^\",]*\).*/\1/p" "$1/summary.json"; }

# row NAME TITLE 'KEY FORMAT …': of all seeds that are there: accuracy with its deviation, their number, and for each key of summary.json
# the middle one: a shared machine is now and then busy otherwise. A value() of – stands as it is.
row() {
	for seed in $seeds; do
		run=$dir/$1-$seed
		if [ -f "$run/summary.json" ]; then
			echo "$(value "$run" final_test_accuracy) $(echo "$3" | while read -r key format; do [ -z "$format" ] || value "$run" "$key"; done | tr '\n' ' ')"
		elif [ -f "$run.failed" ]; then
			echo failed "$(head -n 1 "$run.failed")"
		fi
	done | awk -v title="$2" -v formats="$(echo "$3" | while read -r key format; do printf '%s ' "$format"; done)" '
		$1 == "failed" { bad++; if ($2 == 4) diverged++; next }
		{ n++; sum += $1; squares += $1 * $1; for (f = 2; f <= NF; f++) figure[f, n] = $f }
		function middle(f,    i, j, t, v) {
			for (i = 1; i <= n; i++)
				v[i] = figure[f, i]
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && v[j] + 0 < v[j - 1] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
			return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
		}
		END {
			if (n) {
				variance = n > 1 ? (squares - sum * sum / n) / (n - 1) : 0
				accuracy = sprintf("%.2f", 100 * sum / n)
				if (n > 1)
					accuracy = accuracy sprintf(" ± %.2f", 100 * sqrt(variance > 0 ? variance : 0))
			} else
				accuracy = diverged ? "diverged" : bad ? "failed" : "–"
			if (n && bad)
				accuracy = accuracy sprintf(" (%d of %d %s)", bad, n + bad, diverged ? "diverged" : "failed")
			line = sprintf("| %s | %s | %d |", title, accuracy, n)
			columns = split(formats, format, " ")
			for (f = 1; f <= columns; f++)
				line = line " " (n && (value = middle(f + 1)) != "–" ? sprintf(format[f], value) : "–") " |"
			print line
		}'
}

# After the table: what has failed or is left; the exit status.
ended() {
	for f in "$dir"/*.failed; do
		[ -f "$f" ] && { echo; echo "$(basename "$f" .failed): status $(tr '\n' ' ' <"$f")"; } >&2
	done
	[ $left = 0 ] || echo "$left runs are left; the same command goes on" >&2
	[ $failed = 0 ]
}
