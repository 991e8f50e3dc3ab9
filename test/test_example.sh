#!/bin/sh
# cocod.cfg.example says what the program says: it loads, every key of --list is in it, its values are the defaults but for the
# ones named here, what stands there behind a single "#" would load too, and its keys survive --print-config. TAP.

cd "$(dirname "$0")/.." || exit 1
bin=${BUILD:?}/cocod-train
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
n=0

ok()            # STATUS WHAT : STATUS 0 is good
{
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}

"$bin" --print-config cocod.cfg.example >"$tmp/example" 2>"$tmp/err"
ok $? 'the example loads'
sed 's/^/# /' "$tmp/err"

: >"$tmp/empty.cfg"
"$bin" --print-config "$tmp/empty.cfg" >"$tmp/defaults"
ok $? 'an empty config loads'
differ=$(diff "$tmp/example" "$tmp/defaults" | sed -n 's/^[<>][ 	]*\([a-z_.]*\).*/\1/p' | sort -u | tr '\n' ' ')
[ "$differ" = 'warmup_epochs ' ]
ok $? "its values are the defaults, but for warmup_epochs (here: $differ)"

missing= keys=0
for key in $("$bin" --list | sed -n 's/^    \([a-z][a-z0-9_.]*\) .*/\1/p' | sed 's/.*\.//' | sort -u); do
	keys=$((keys + 1))
	grep -q "^[	# ]*$key = " cocod.cfg.example || missing="$missing $key"
done
[ -z "$missing" ] && [ $keys -gt 30 ]
ok $? "every one of the $keys keys of --list is in it$missing"

# Each algorithm's topologies are in its text, which may be broken into lines at any space.
"$bin" --list >"$tmp/list"
algorithms=$(grep -c '^  algorithm "' "$tmp/list")
[ "$algorithms" -gt 20 ] && [ "$(grep -o '; topology\.kind:\|^ *topology\.kind:' "$tmp/list" | wc -l)" = "$algorithms" ]
ok $? "--list says for all $algorithms algorithms on which topologies they work"
[ "$(scripts/algorithms "$bin" | wc -l)" = "$algorithms" ] && scripts/algorithms "$bin" | grep -qx 'adaptive all-reduce'
ok $? 'and scripts/algorithms finds them there'

sed 's/^\(	*\)# \([a-z_0-9]* = .*;\)/\1\2/' cocod.cfg.example >"$tmp/all.cfg"
"$bin" --print-config "$tmp/all.cfg" >"$tmp/out" 2>"$tmp/err"
ok $? 'with all its keys set it loads too'
sed 's/^/# /' "$tmp/err"

"$bin" --print-config "$tmp/example" >"$tmp/again" 2>"$tmp/err" && cmp -s "$tmp/example" "$tmp/again"
ok $? 'what --print-config prints reads back as the same config'

for preset in scripts/clusters/*.cfg; do
	"$bin" --print-config --set cluster.preset="$(basename "$preset" .cfg)" "$tmp/empty.cfg" >"$tmp/out" 2>"$tmp/err"
	ok $? "$preset loads"
done

"$bin" --set comm.transport=self --set data.name=synthetic --set data.images=64 --set data.test_images=16 --set model.width=0.05 \
	--set train.batch=8 --set train.epochs=1 --set output.dir="$tmp/run" cocod.cfg.example >"$tmp/out" 2>&1
ok $? 'it trains (narrow, on a few images)'
[ -s "$tmp/run/config.cfg" ] && "$bin" --print-config "$tmp/run/config.cfg" >/dev/null
ok $? "and the run directory's config.cfg loads"
echo "1..$n"
