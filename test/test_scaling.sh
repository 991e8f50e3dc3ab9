#!/bin/sh
# --predict: what it says of clusters is what the formulas of the papers say, worked out here by awk; it reads no file and binds no memory
# where the config says how fast workers are; and the tables in docs/gtopk-paper.md are what it predicts now.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"

# Image data that are not there: nothing may want them. 1 ms an image, 2 ms a message, 1 us a byte.
cat >"$dir/run.cfg" <<END
model = { name = "resnet20"; };
data = { name = "cifar10"; dir = "/no/such/folder"; };
train = { batch = 16; };
sync = { algorithm = "ssgd"; };
schedule = { fusion = "model"; };
cluster = {
	inter = { latency_us = 2000.0; gbit_per_s = 0.008; };
	intra = { latency_us = 20.0; gbit_per_s = 0.8; };
	compute = { images_per_s = 1000.0; };
};
END
ask() { timeout 120 "$program" "$@" "$dir/run.cfg" >"$dir/log" 2>"$dir/err"; }
csv() { ask --predict --csv "$@"; }
# field WORKERS NAME: of the row for so many workers
field() {
	awk -F, -v p="$1" -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 && $at["workers"] == p { print $at[name]; exit }' "$dir/log"
}
# is WORKERS NAME FORMULA: n: floats; a, b: a message, a byte; i, j: the same inside a node
is() {
	awk -v got="$(field "$1" "$2")" -v P="$1" 'BEGIN { n = 269722; a = 2; b = 1e-3; i = 0.02; j = 1e-5; want = '"$3"'
		exit !(got != "" && got > 0.998 * want && got < 1.002 * want) }'
}
says() { grep -q -- "$1" "$dir/log"; }
refused() { # refused WORDS ARGUMENTS
	words=$1
	shift
	ask "$@"
	[ $? = 2 ] && grep -q -- "$words" "$dir/err"
	ok $? "refused: $words"
}

# ---- formulas ----

csv --workers 1,3,8; ok $? "a prediction without the images, as CSV"
[ "$(wc -l <"$dir/log")" = 4 ] && [ "$(awk -F, '{ print NF }' "$dir/log" | sort -u)" = 13 ]; ok $? "  a head and a row for each number of workers"
is 1 step_ms 16 && is 8 step_ms "16 + 2 * (P - 1) * (a + 4 * n / P * b)" && is 3 step_ms "16 + 2 * (P - 1) * (a + 4 * n / P * b)"
ok $? "  dense: 2 (P-1) messages of n / P"
is 8 bytes_per_step "2 * (P - 1) / P * 4 * n" && is 8 exposed_ms "$(field 8 step_ms) - 16" &&
	is 8 images_per_s "8 * 16 / $(field 8 step_ms) * 1000" && is 8 efficiency "16 / $(field 8 step_ms)"
ok $? "  bytes, what is exposed, images a second, efficiency"
csv --workers 8 --set compress.method=topk --set compress.density=0.01 && is 8 step_ms "16 + 7 * (a + 8 * int(n / 100) * b)"
ok $? "top-k: P-1 lists of k pairs"
csv --workers 8 --set compress.method=gtopk --set compress.density=0.01 && is 8 step_ms "16 + 3 * (a + 8 * int(n / 100) * b)"
ok $? "gTop-k: log2 P of them"
csv --workers 8 --set compress.method=gtopk --set compress.density=0.01 --set cluster.compute.compress_ns=100.0 &&
	is 8 step_ms "16 + 3 * (a + 8 * int(n / 100) * b) + 1e-4 * n"
ok $? "  and choosing, if the cluster says how long that takes"
csv --workers 8 --set cluster.compute.compress_ns=100.0 && is 8 kernels_ms 0; [ "$(field 8 kernels_ms)" = 0 ]; ok $? "  which dense messages need not"

# ---- who sits together ----

csv --workers 4,8 --set topology.allreduce=doubling --set cluster.workers_per_node=4 &&
	is 8 step_ms "16 + 2 * (i + 4 * n * j) + a + 4 * 4 * n * b" && is 4 step_ms "16 + 2 * (i + 4 * n * j)"
ok $? "doubling on nodes of 4: two rounds inside, and then all four share the link"
cp "$dir/log" "$dir/four"
csv --workers 8 --set topology.allreduce=doubling --set cluster.nodes=2 && [ "$(field 8 nodes)" = 2 ] &&
	[ "$(tail -n 1 "$dir/log")" = "$(tail -n 1 "$dir/four")" ]
ok $? "  as 8 workers on 2 nodes"
csv --workers 8 --set cluster.workers_per_node=4 && is 8 step_ms "16 + 2 * (P - 1) * (a + 4 * n / P * b)"; ok $? "a ring crosses each link once"
csv --workers 4 --set cluster.workers_per_node=4 && is 4 step_ms "16 + 2 * (P - 1) * (i + 4 * n / P * j)"; ok $? "  and none inside a node"
# row WORKERS [OPTIONS]: what hierarchical top-k comes to
row() {
	workers=$1
	shift
	csv --workers "$workers" --set compress.method=hierarchical --set compress.density=0.01 "$@" && tail -n 1 "$dir/log"
}
[ "$(row 8 --set cluster.workers_per_node=4)" = "$(row 8 --set cluster.workers_per_node=4 --set compress.group=4)" ] &&
	[ "$(row 8 --set cluster.nodes=4)" = "$(row 8 --set cluster.nodes=4 --set compress.group=2)" ] &&
	[ "$(row 8 --set cluster.nodes=4)" != "$(row 8 --set cluster.nodes=4 --set compress.group=4)" ]
ok $? "hierarchical top-k takes the cluster's nodes, unless it is told others"
[ "$(row 12 --set cluster.workers_per_node=8)" = "$(row 12 --set cluster.workers_per_node=8 --set compress.group=4)" ]
ok $? "  and where the last one is not full, the largest parts that all are made of"
csv --workers 8 --set compress.method=hierarchical --set compress.density=0.01 && bytes=$(field 8 bytes_per_step) &&
	csv --workers 8 --set compress.method=topk --set compress.density=0.01 && [ "$(field 8 bytes_per_step)" = "$bytes" ]
ok $? "  and is top-k where each worker is a node"
csv --workers 8 --set topology.kind=ps --set topology.servers=4 --set cluster.workers_per_node=4 && is 8 step_ms "16 + 2 * a + 2 * 4 * n * b * 8"
ok $? "4 servers on one node have one link for 8 workers"

# ---- how fast workers are ----

rates='cluster.compute.rates=["vgg16=7", "resnet20=500"]'
csv --workers 1 --set cluster.compute.images_per_s=0.0 --set "$rates" && is 1 step_ms 32; ok $? "a rate by the model's name"
csv --workers 1 --set "$rates" && is 1 step_ms 16; ok $? "  images_per_s wins"
ask --predict --workers 1 --set cluster.compute.images_per_s=0.0 --set "$rates" --set model.width=0.25 --set data.name=synthetic \
	--set data.images=32 --set data.test_images=16 --set train.batch=2 && says '^compute .*measured here' && says '^ *1  '
ok $? "  and another width is measured"

# ---- large ----

ask --predict --set model.name=vgg16 --set data.name=synthetic --set data.size=224 --set data.classes=1000 --set data.images=1000000000 \
	--set train.batch=256 && says ' 138357544 parameters'
ok $? "a large model and more images than any memory has: sizes only"
[ "$(grep -c '^ *[0-9]* *[0-9.]* .*%$' "$dir/log")" = 11 ]; ok $? "  on 1 to 1024 workers"
csv --workers 2 --set cluster.compute.images_per_s=0.0 --set model.width=0.25 --set data.name=auto --set data.images=32 --set data.test_images=16 \
	--set train.batch=2 && [ "$(wc -l <"$dir/log")" = 2 ] && grep -q 'measured here' "$dir/err"; ok $? "whatever else is said, stdout has the values alone"
ask --predict --set cluster.nodes=4 --set cluster.workers_per_node=3 --workers 12,13 && says '^ *12   ' && says '^ *13+ ' && says 'more than the 12 workers'
ok $? "workers beyond the cluster are marked"
ask --dry-run --set data.name=synthetic --set data.images=64 --set data.test_images=16 && sed -n '/^ *workers/,/^ *1024/p' "$dir/log" >"$dir/dry" &&
	ask --predict && sed -n '/^ *workers/,/^ *1024/p' "$dir/log" | cmp -s - "$dir/dry" && [ "$(wc -l <"$dir/dry")" = 12 ]
ok $? "--dry-run has the same table"

# ---- all ----

csv --workers 8 && own=$(tail -n 1 "$dir/log") && csv=$(csv --workers 8 --set compress.density=0.01 --predict=all; echo $?)
[ "$csv" = 0 ] && grep -qx "$own" "$dir/log"; ok $? "--predict=all: the config's choice is among them"
scripts/algorithms "$program" | while read -r name _; do grep -q "^resnet20,$name," "$dir/log" || echo "$name"; done >"$dir/err"
[ ! -s "$dir/err" ]; ok $? "  all $(scripts/algorithms "$program" | wc -l) algorithms are"
[ "$(awk -F, '$2 == "ssgd" { print $4 }' "$dir/log" | sort -u | wc -l)" -gt 14 ]; ok $? "  and $(awk -F, '$2 == "ssgd"' "$dir/log" | wc -l) compressors under ssgd"
awk -F, 'NR > 1 && !($10 >= $8 && $10 < 1e9 && $7 >= 0 && $13 > 0 && $13 <= 1) { bad = 1 } END { exit bad }' "$dir/log"
ok $? "  all figures are possible"

# ---- mistakes ----

refused '--workers 4,,8: it takes up to 64 numbers' --predict --workers 4,,8
refused '--workers 0: it takes' --predict --workers=0
refused '--csv belongs to --predict' --dry-run --csv
refused 'it is --predict, or --predict=all' --predict=some
refused '--predict and --dry-run exclude each other' --predict --dry-run
refused '"resnet20:5" is not MODEL=IMAGES_PER_SECOND' --predict --set 'cluster.compute.rates=["resnet20:5"]'
refused '"resnet2000=5": there is no such model' --predict --set 'cluster.compute.rates=["resnet2000=5"]'
refused 'has 65 rates, there can be 64' --predict --set "cluster.compute.rates=[$(seq 65 | sed 's/.*/"resnet20=&"/' | paste -s -d , -)]"
ask --dry-run --set data.name=synthetic --set data.classes=1000 --set data.images=2000
[ $? = 3 ] && grep -q 'data.classes = 1000 .*labels are bytes' "$dir/err"; ok $? "more than 256 classes cannot be trained"

# ---- the gTop-k paper ----

fit=$(scripts/tables/gtopk-fit | sed -n 's/^alpha \([0-9.]*\) us, .*(\([0-9.]*\) Gbit.*/\1 \2/p')
preset=$(sed -n 's/^.*latency_us = \([0-9.]*\)\.0;/\1/p; s/^.*gbit_per_s = \([0-9.]*\);/\1/p' scripts/clusters/gtopk-1gbe-congested.cfg | paste -s -d ' ' -)
[ -n "$fit" ] && [ "$fit" = "$preset" ]; ok $? "the congested preset is what the fit gives: $fit"
if [ "$program" -ef ./cocod-train ] || cmp -s "$program" ./cocod-train; then
	scripts/tables/gtopk-paper >"$dir/log" 2>"$dir/err" && [ "$(grep -c '^|.*%' "$dir/log")" = 24 ]; ok $? "scripts/tables/gtopk-paper: 24 rows"
	grep '^|' "$dir/log" | while read -r line; do grep -qxF -- "$line" docs/gtopk-paper.md || echo "$line"; done >"$dir/err"
	[ ! -s "$dir/err" ]; ok $? "  which are in docs/gtopk-paper.md"
fi

ended
