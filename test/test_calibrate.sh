#!/bin/sh
# What each layer takes, as a user meets it: measured and written down by --calibrate, and taken by runs. No time is asserted but in
# relation to another one. TAP.
# shellcheck source=test/run_kit.sh
. "$(dirname "$0")/run_kit.sh"
small 0.25 'sync = { algorithm = "ssgd"; };'
profile=$dir/resnet.profile

# ---- --calibrate ----

train 1 none "--calibrate=$profile"; ok $? "--calibrate measures and writes a profile"
[ ! -e "$dir/none" ]; ok $? "  and leaves no run directory"
said '^calibrate  resnet20, batch 16, .* passes on ' && said '^step  .*layer by layer.*in one piece' && said "^profile    $profile;"
ok $? "  it says what it has measured, beside a pass in one piece"
[ "$(sed -n '/^  layer  /,/^  total/p' "$dir/log" | wc -l)" = 16 ]; ok $? "  twelve layers, the others, the update and the sum"
sed -n '/^  layer  /,/others/p' "$dir/log" | grep -v 'layer  \|others' | awk '{ t = $(NF - 3) + $(NF - 2) } NR > 1 && t > last + 0.002 { bad = 1 } { last = t }
	END { exit bad }'
ok $? "  the slowest first"
[ "$(grep -c '^layer ' "$profile")" = "$(grep -v '^#' "$profile" | sed 1,4d | wc -l)" ] && [ "$(grep -c '^layer .*conv' "$profile")" = 19 ]
ok $? "  every layer has a line"
awk '/^layer/ && !($4 >= 0 && $5 >= $6 && $6 >= 0 && NF == 6) { bad = 1 } END { exit bad }' "$profile"; ok $? "  with three times"
train 1 none --calibrate && said 'not kept'; ok $? "without a file it only prints"
train 1 none --calibrate --set 'train.batch=[16, 8]' --set 'cluster.slowdown=[1, 50]' --set world_size=2 --set 'cluster.compute.profile="/nowhere"' \
	--set cluster.compute.sleep=true --set cluster.jitter=1.0
ok $? "it takes a config of several workers"
train 2 none --calibrate; [ $? = 2 ] && said 'measures one process'; ok $? "but several processes are refused"
train 1 none "--calibrate=$dir/no/where"; [ $? = 1 ] && said 'No such file'; ok $? "so is a file that cannot be written"
train 1 none --calibrate=; [ $? = 2 ] && said 'a file is missing'; ok $? "and none at all"
train 1 none --calibrate --dry-run; [ $? = 2 ] && said 'exclude each other'; ok $? "--dry-run is something else"

# ---- predictions take it ----

# step [OPTIONS]: milliseconds of a step's computing, as a dry run says
step() { train 1 none --dry-run "$@" && sed -n 's/^compute *\([0-9.]*\) ms.*/\1/p' "$dir/log"; }
total=$(awk '/^batch/ { b = $2 } /^update/ { u = $2 } /^layer/ { s += $4 + $5 } END { print (b * s + u) / 1000 }' "$profile")
given="cluster.compute.profile=\"$profile\""
close() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && a > 0.99 * b - 0.01 && a < 1.01 * b + 0.01) }'; }
awk '/^layer/ { $4 *= 100; $5 *= 100; $6 *= 100 } { print }' "$profile" >"$dir/slow.profile"
slow=$(awk '/^batch/ { b = $2 } /^update/ { u = $2 } /^layer/ { s += $4 + $5 } END { print (b * s + u) / 1000 }' "$dir/slow.profile")
here=$(step --set "$given") && close "$here" "$total" && said '^compute .*from cluster.compute.profile: '
ok $? "a prediction with the profile: $here ms, the sum of its lines is $total"
close "$(step --set "cluster.compute.profile=\"$dir/slow.profile\"")" "$slow"; ok $? "  of a machine that is a hundred times slower: $slow"
close "$(step --set "cluster.compute.profile=\"$dir/slow.profile\"" --set train.batch=32)" "$(awk -v s="$slow" 'BEGIN { print 2 * s }')"
ok $? "  twice the batch, twice the time"
close "$(step --set "$given" --set cluster.compute.images_per_s=1.0)" "$total"; ok $? "  it goes before images_per_s"
train 2 two --set "$given" && train 2 without && same two without; ok $? "a run with a profile trains as one without"
said 'measured here' && [ -n "$(value two predicted_step_ms)" ]; ok $? "  and predicts"

# ---- and refuse another's ----

train 1 none --dry-run --set "$given" --set model.width=0.5; [ $? = 2 ] && said 'wanted is layer layer2.0.conv1 8x8x16 (resnet20)' && said 'hint: '
ok $? "another width is refused"
train 2 none --dry-run --set "$given" --set data.size=32; [ $? = 2 ] && [ "$(grep -c 'wanted is' "$dir/log")" = 1 ]; ok $? "other images, once for all ranks"
train 1 none --dry-run --set "$given" --set model.name=vgg16; [ $? = 2 ] && said 'there is: model resnet20'; ok $? "another model"
train 1 none --dry-run --set cluster.compute.profile=/nowhere; [ $? = 2 ] && said 'calibrate=FILE'; ok $? "a file that is not there"

ended
