#!/bin/sh
# What a run foretells before its first step: the figures are there and make sense, networks that are given decide as they must, and training
# does not notice. No time is asserted: on another machine, or beside other programs, all of them differ.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"

cat >"$dir/run.cfg" <<END
model = { name = "resnet20"; width = 0.5; };
data = { name = "synthetic"; images = 320; test_images = 70; size = 32; };
train = { epochs = 1; batch = 16; eval_every = 0; };
optimizer = { lr = 0.05; };
device = { threads = 1; };
output = { overwrite = true; };
END

run() { # run RANKS NAME [OPTIONS]
	ranks=$1 name=$2
	shift 2
	if [ "$ranks" = 1 ]; then
		timeout 300 "$program" --set output.dir="\"$dir/$name\"" "$@" "$dir/run.cfg" >"$dir/log" 2>&1
	else
		ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" timeout 900 mpirun -np "$ranks" --oversubscribe --bind-to none "$program" \
			--set output.dir="\"$dir/$name\"" "$@" "$dir/run.cfg" >"$dir/log" 2>&1    # MPI leaks, by design
	fi
}
says() { grep -q -- "$1" "$dir/log"; }
warned() { says '^warning: compress.method = '; }
rows() { sed -n '/beats dense/,$p' "$dir/log" | sed 1d | grep '^[* ] [a-z]' | sed 's/^..//; s/, [a-z]* [0-9.]*//; s/ (dense)//' | head -n 4; }
# Of the row that begins so: its 1st, 2nd, … number. step, exposed, kernels, MB.
figure() { rows | awk -v name="$1" -v i="$2" '$1 == name { print $(i + 1) }'; }

# ---- training does not notice ----

# twice WHAT RANKS [OPTIONS]: with and without a forecast
twice() {
	what=$1 ranks_of=$2
	shift 2
	run "$ranks_of" with "$@" && says '^forecast' && run "$ranks_of" without "$@" --set output.predict=false && ! says '^forecast' && same with without
	ok $? "$what: the same parameters to the bit, forecast or not"
}
twice "cocod with topk" 3 --set compress.method=topk --set sync.algorithm=cocod
twice "ssgd with powersgd" 2 --set compress.method=powersgd --set sync.algorithm=ssgd
twice "ssgd with stochastic rounding, the forecast on a thread" 2 --set compress.method=int8 --set sync.algorithm=ssgd --set comm.progress=thread
twice "local with AdamW" 2 --set optimizer.name=adamw --set optimizer.lr=0.001 --set sync.algorithm=local
twice "a network with dropout" 2 --set model.name=vgg16 --set model.width=0.05
twice "unequal workers, a random choice" 2 --set 'train.batch=[8, 16]' --set 'cluster.slowdown=[2.0]' --set compress.method=randomk --set sync.algorithm=ssgd
twice "a chain, a dense phase first" 2 --set 'compress.method=("topk", "fp16")' --set 'compress.warmup=[0.5]'
twice "a model longer than what kernels are timed on" 2 --set model.name=resnet18 --set model.width=0.5 --set data.size=8 --set train.batch=2 \
	--set train.max_steps=3 --set compress.method=powersgd --set sync.algorithm=ssgd

# ---- the table ----

run 2 table --set sync.algorithm=ssgd --set compress.method=gtopk; ok $? "two workers, ssgd with gtopk"
says '^compute .* ms a step of 16 images' && says '^network .* fitted to messages over mpi here, within [0-9]* %'
ok $? "  it says what it has measured"
[ "$(rows | wc -l)" = 4 ] && [ "$(rows | awk '{ print $1 }' | head -n 2 | tr '\n' ' ')" = "none gtopk " ] && says '^\* gtopk, density 0.01 '
ok $? "  dense, the run's own and two alternatives: $(rows | awk '{ print $1 }' | tr '\n' ' ')"
rows | awk '$2 <= 0 || $3 < 0 || $3 > $2 || $4 <= 0 || $5 <= 0 { bad = 1 } END { exit bad }'
ok $? "  all times and bytes are positive, and less is exposed than a step takes"
rows | awk 'NR > 3 && $2 < last { bad = 1 } { last = $2 } END { exit bad }'; ok $? "  the faster alternative is first"
[ "$(rows | awk 'NR > 1 && (NF > 5) { n++ } END { print n + 0 }')" = 3 ]; ok $? "  each says where it beats dense"
missing=
for key in predicted_step_ms step_ms prediction_error predicted_exposed_ms predicted_bytes_sent_per_step compress_ms fitted_latency_us fitted_gbit_per_s \
	fit_error prediction_s; do
	grep -q "\"$key\": [-0-9]" "$dir/table/summary.json" || missing="$missing $key"
done
[ -z "$missing" ]; ok $? "summary.json has what was predicted$missing"
awk -v p="$(value table predicted_step_ms)" -v m="$(value table step_ms)" -v e="$(value table prediction_error)" \
	'BEGIN { d = p / m - 1 - e; exit !(d < 1e-6 && d > -1e-6) }'
ok $? "  and its error: predicted / measured - 1"
awk -v p="$(value table predicted_bytes_sent_per_step)" -v m="$(value table bytes_sent_per_step)" 'BEGIN { exit !(p == m && p > 0) }'
ok $? "  bytes a step are predicted exactly: $(value table predicted_bytes_sent_per_step)"
[ "$(figure gtopk 1)" = "$(awk -v p="$(value table predicted_step_ms)" 'BEGIN { printf "%.2f", p }')" ]; ok $? "  it is the row of the table"
says '^what was predicted at the start' && says '^  step, ms  *[0-9.e+-]*  *[0-9.e+-]*  *[-+][0-9]* %'; ok $? "the end says what came of it"

# Epochs of the warm-up send all; what was predicted is held against the steps behind them.
run 2 warm --set sync.algorithm=ssgd --set compress.method=topk --set 'compress.warmup=[1.0]' --set train.epochs=2 &&
	says '^what was predicted .* behind a warm-up of [1-9]' && says '^  sent a step, MB .* +0 %' &&
	awk -v p="$(value warm predicted_bytes_sent_per_step)" -v m="$(value warm bytes_sent_per_step)" 'BEGIN { exit !(m > 10 * p) }'
ok $? "behind a warm-up bytes are those predicted, $(value warm predicted_bytes_sent_per_step); of all steps $(value warm bytes_sent_per_step)"
awk -v p="$(value warm predicted_step_ms)" -v e="$(value warm prediction_error)" -v all="$(value warm step_ms)" \
	'BEGIN { d = p / (1 + e) / all; exit !(d > 0.2 && d < 5 && d != 1) }'; ok $? "  and so is the step that the error is of"
run 2 never --set sync.algorithm=ssgd --set compress.method=oktopk && says '^warning: .*"oktopk" warms up for 512 steps' &&
	says '^what was predicted .* has no step to be held against: warming up took 512' && ! says '^  sent a step' &&
	grep -q '"prediction_error": null' "$dir/never/summary.json"
ok $? "a run that ends in its warm-up says so, before and behind it"

# ---- an all-reduce that is chosen by the network ----

run 3 chosen --set sync.algorithm=ssgd --set topology.allreduce=auto &&
	says '^all-reduce [a-z]* .*by topology.link = \[[0-9.e+-]*, [0-9.e+-]*\], fitted here' && link=$(grep '	link = ' "$dir/chosen/config.cfg") && [ -n "$link" ]
ok $? "auto fits the network first, and config.cfg has what it found:$link"
way() { sed -n 's/^all-reduce \([a-z]*\).*/\1/p' "$dir/log"; }
slow=1000000.0
run 3 doubled --set sync.algorithm=ssgd --set topology.allreduce=auto --set "topology.link=[$slow, 1000.0]" && [ "$(way)" = doubling ] &&
	says '^network .* fitted'; ok $? "messages said to take a second: few of them, doubling"
run 3 long --set sync.algorithm=ssgd --set topology.allreduce=auto --set 'topology.link=[0.0, 0.001]' && [ "$(way)" = ring ]
ok $? "a link said to have a bandwidth of 1 Mbit/s and no latency: a ring"
run 2 unread --set sync.algorithm=ssgd --set 'topology.link=[50.0, 10.0]' && says '^warning: topology.link (--set) .*"ring" does not read it'
ok $? "a link that nobody reads is warned of"
cp "$dir/doubled/config.cfg" "$dir/again.cfg"
mpirun -np 3 --oversubscribe --bind-to none "$program" --set output.dir="\"$dir/again\"" "$dir/again.cfg" >"$dir/log" 2>&1 && [ "$(way)" = doubling ] &&
	same doubled again; ok $? "its config.cfg gives the same run again, to the bit"

run 2 delay --set sync.algorithm=local --set sync.period=1 --set comm.delay_ms=60 &&
	awk -v p="$(value delay predicted_exposed_ms)" -v m="$(value delay exposed_ms)" 'BEGIN { exit !(p >= 60 && m >= 55) }'
ok $? "what a slow network exposes is foretold: $(value delay predicted_exposed_ms) ms, was $(value delay exposed_ms)"
run 1 alone && ! says '^forecast' && ! says 'was predicted' && ! grep -q predicted "$dir/alone/summary.json"; ok $? "one worker alone: nothing is said"
run 2 gossip --set sync.algorithm=dpsgd --set topology.kind=gossip && ! says '^forecast'; ok $? "nor among neighbours, who take no compressor"
run 3 ps --set sync.algorithm=ssgd --set topology.kind=ps && ! says '^forecast'; ok $? "nor over a server"
run 2 still --set sync.algorithm=overlap-local --set sync.alpha=1.0 && says '^forecast' && [ "$(grep -c '^warning: sync.alpha = 1' "$dir/log")" = 1 ]
ok $? "the algorithm's warnings come once, and not for each compressor that is looked at"
run 2 acco --set sync.algorithm=acco && says '^\* none (dense)'; ok $? "dense is a choice, too"

# ---- networks that are given ----

# given GBIT [OPTIONS]: a dry run of two workers that compute next to nothing, so that sending is all
given() {
	gbit=$1
	shift
	run 2 dry --dry-run --set cluster.inter.gbit_per_s="$gbit" --set cluster.inter.latency_us=0.0 --set cluster.compute.images_per_s=100000000.0 \
		--set sync.algorithm=local --set sync.period=1 "$@"
}
given 100000.0 --set compress.method=int8 && warned && says 'Set compress.method = "'; ok $? "an endless bandwidth: int8 must lose, and is warned of"
says '^network .*(cluster.inter)' && says '^compute .*cluster.compute.images_per_s'; ok $? "  what is given is not measured"
awk -v a="$(figure int8 1)" -v b="$(figure none 1)" 'BEGIN { exit !(a > b) }'; ok $? "  it is slower in the table, too: $(figure int8 1), dense $(figure none 1) ms"
[ "$(grep -c '^warning: compress' "$dir/log")" = 1 ]; ok $? "  one warning"
given 0.001 --set compress.method=int8 && ! warned; ok $? "1 Mbit/s: it must win, and nothing is warned of"
awk -v a="$(figure int8 1)" -v b="$(figure none 1)" 'BEGIN { exit !(a > 0.2 * b && a < 0.3 * b) }'
ok $? "  by about four: $(figure int8 1), dense $(figure none 1) ms"
rows | grep -q '^int8 .*below [0-9.]* [GM]bit/s'; ok $? "  it says below which bandwidth"
# The bandwidth that it names is where it is: a little faster it loses, a little slower it wins.
given 0.001 --set compress.method=topk --set compress.density=0.1 --set cluster.inter.latency_us=100.0; ok $? "two workers, topk"
awk -v d="$(figure none 4)" -v t="$(figure topk 4)" 'BEGIN { x = d / t; exit !(x > 4.9 && x < 5.1) }'
ok $? "  a tenth of the elements with their places is a fifth of the bytes: $(figure topk 4) of $(figure none 4) MB"
run 2 fit --dry-run && says '^network .*fitted' && says '^forecast' && says '^nothing was trained'; ok $? "a dry run of two workers fits the network they have"
run 1 fit --dry-run && says '^network .*(cluster.inter)' && ! says '^forecast'; ok $? "of one: the default one"
[ "$(sed -n '/^   *workers /,/1024 /p' "$dir/log" | wc -l)" = 12 ]; ok $? "  and 1 to 1024 workers"

ended
