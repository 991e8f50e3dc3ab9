#!/bin/sh
# Bad input: wrong command lines, configs and data files, each with the exit status and the words that a user gets. TAP.

cd "$(dirname "$0")/.." || exit 1
bin=${BUILD:?}/cocod-train
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
n=0

# STATUS WORDS ARGUMENT… : the program must end with this status and say these words (a fixed string) on stderr, and not train.
refused()
{
	status=$1 words=$2
	shift 2
	n=$((n + 1))
	timeout 120 "$bin" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	if [ $got -eq "$status" ] && grep -qF -e "$words" "$tmp/err" && ! grep -q '^layer\|^epoch' "$tmp/out"; then
		echo "ok $n - $status: $words"
	else
		echo "not ok $n - expected status $status and: $words"
		echo "# got status $got of: $* (first lines:)"
		head -n 6 "$tmp/err" | sed 's/^/# /'
	fi
}

# WHAT ARGUMENT… : the control: the same kind of call, with nothing wrong, is accepted.
accepted()
{
	what=$1
	shift
	n=$((n + 1))
	if timeout 120 "$bin" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; then
		echo "ok $n - accepted: $what"
	else
		echo "not ok $n - accepted: $what (status $?)"
		head -n 6 "$tmp/err" | sed 's/^/# /'
	fi
}

# STATUS WORDS TEXT [ARGUMENT…] : a config file of this text, printf escapes allowed.
config()
{
	status=$1 words=$2 text=$3
	shift 3
	printf "$text" >"$tmp/run.cfg"
	refused "$status" "$words" "$@" "$tmp/run.cfg"
}

# STATUS WORDS KEY=VALUE… : an otherwise empty config with these sets. Only checked, not trained.
set_()
{
	status=$1 words=$2
	shift 2
	for pair; do
		shift
		set -- "$@" --set "$pair"
	done
	: >"$tmp/run.cfg"
	refused "$status" "$words" --dry-run --set comm.transport=self "$@" "$tmp/run.cfg"
}

# ---- the command line ----

accepted 'no mistake' --print-config cocod.cfg.example
refused 2 'no config file is given'
refused 2 'no config file is given, only --set' --set sync.period=3
refused 2 'cocod.cfg.example is one to begin with' --dry-run
refused 2 'two config files: cocod.cfg.example and other.cfg' cocod.cfg.example other.cfg
refused 2 'to set a key of the config write --set sync.period=3' cocod.cfg.example sync.period=3
refused 2 "cannot read the config file $tmp/none.cfg: No such file" "$tmp/none.cfg"
refused 2 "the config file $tmp is a directory" "$tmp"
refused 2 'did you mean --dry-run?' --dryrun cocod.cfg.example
refused 2 'unknown option -x' -x cocod.cfg.example
refused 2 'unknown option --period' --period=8 cocod.cfg.example
refused 2 '--dry-run takes no value' --dry-run=yes cocod.cfg.example
refused 2 '--dry-run and --print-config exclude each other' --dry-run --print-config cocod.cfg.example
refused 2 'its KEY=VALUE is missing' cocod.cfg.example --set
refused 2 '--list takes no config' --list cocod.cfg.example
head -c 3000 "$bin" >"$tmp/binary.cfg"
refused 2 'it is not text' "$tmp/binary.cfg"

# ---- the config: syntax ----

config 2 ':2: syntax error, at: period = cocod;' 'sync: {\nperiod = cocod;\n};\n'
config 2 ':3: duplicate setting name, at: lr = 0.2;' 'optimizer: {\nlr = 0.1;\nlr = 0.2;\n};\n'
config 2 'a group and a key inside it may be given once' 'train: { seed = 1; };\ntrain: { batch = 2; };\n'
config 2 'mismatched element type' 'optimizer: { milestones = [1, 2.5]; };\n'
config 2 ':2: 99999999999999999999 does not fit into 64 bits' 'train: {\nseed = 99999999999999999999;\n};\n'
config 2 ':1: @include is not possible here' '@include "base.cfg"\n'
config 2 'syntax error' 'train: {\n batch = 3;\n'

# ---- the config: names ----

config 2 ':1: unknown group optimiser' 'optimiser: { lr = 0.1; };\n'
config 2 'did you mean optimizer?' 'optimiser: { lr = 0.1; };\n'
config 2 ':2: unknown key sync.peroid' 'sync: {\nperoid = 3; };\n'
config 2 'did you mean sync.period?' 'sync: {\nperoid = 3; };\n'
config 2 'did you mean train.batch?' 'batch = 64;\n'
config 2 'did you mean optimizer.lr?' 'train: { lr = 0.1; };\n'
config 2 ':1: train is a group, not a value' 'train = 64;\n'
config 2 'model.name = "resnet81" is not known; known are: resnet18' 'model: { name = "resnet81"; };\n'
config 2 'did you mean "resnet18"?' 'model: { name = "resnet81"; };\n'
set_ 2 'did you mean "cocod"?' sync.algorithm=cocd
set_ 2 'sync.algorithm = "asgd" is not known; known are: ssgd, post-local' sync.algorithm=asgd
set_ 2 'did you mean "gtopk"?' compress.method=gtopkk
set_ 2 'did you mean "fp16"?' 'compress.method=("topk", "fp17")'
set_ 2 'nothing can be sent as "gtopk"' 'compress.method=("topk", "gtopk")'
set_ 2 'the values of "gtopk" cannot be sent as "bf16"' 'compress.method=("gtopk", "bf16")'
set_ 2 'which nobody adds up on the way can: "topk", "threshold", "gaussian-k", "dgc", "hierarchical"' 'compress.method=("oktopk", "fp16")'
set_ 2 'is a list of 3 names' 'compress.method=("topk", "fp16", "bf16")'
set_ 2 'topology.allreduce = "rings" is not known' topology.kind=all-reduce topology.allreduce=rings
set_ 2 'topology.link has two numbers' topology.allreduce=auto 'topology.link=[50.0]'
set_ 2 'a bandwidth in Gbit/s, above 0' topology.allreduce=auto 'topology.link=[50.0, 0.0]'
set_ 2 'did you mean "fashion-mnist"?' data.name=fashion_mnist
set_ 2 'topology.kind = "ring" is not known; known are: all-reduce, gossip' topology.kind=ring
set_ 2 'schedule.fusion = "sizes" is not known' schedule.fusion=sizes
set_ 2 'device.kind = "gpu" is not known; known are: auto, cuda, cpu' device.kind=gpu
set_ 2 "comm.transport = \"nccl\": the workers compute on CPUs" device.kind=cpu comm.transport=nccl
set_ 2 'comm.transport = "ib" is not known; known are: auto, self, mpi, nccl' comm.transport=ib
set_ 2 "computes in fp32 only" device.kind=cpu device.precision=bf16
set_ 2 'device.conv = "fft" is not known; known are: auto, winograd, direct, reference' device.conv=fft
set_ 2 'there is no cluster.preset "nowhere"' cluster.preset=nowhere

# ---- the config: types and ranges ----

config 2 ':3: train.batch = 2.5 is a float; allowed: an integer, or a string, or a list of integers' 'train:\n{\n batch = 2.5;\n};\n'
config 2 'train.batch = "proportionate" is not known; known are: proportional' 'train: { batch = "proportionate"; };\n'
config 2 ':1) is a list of strings' 'train: { batch = ("proportional"); };\n' --dry-run
config 2 'data.partition = "noniid" is not known' 'data: { partition = "noniid"; };\n'
config 2 'cluster.slowdown = 0.5 is out of range' 'cluster: { slowdown = [0.5]; };\n'
config 2 'optimizer.nesterov = 1 is an integer; allowed: true or false' 'optimizer: { nesterov = 1; };\n'
set_ 2 'train.batch = 0 is out of range: it must be from 1 to 65536' train.batch=0
set_ 2 'train.batch = 70000 is out of range' 'train.batch=[64, 70000]'
set_ 2 'train.epochs = 0 is out of range' train.epochs=0
set_ 2 'train.seed = -1 is out of range: it must be at least 0' train.seed=-1
set_ 2 'model.width = 0 is out of range: it must be from 0.01 to 16' model.width=0
set_ 2 'optimizer.lr = -0.1 is out of range' optimizer.lr=-0.1
set_ 2 'optimizer.lr = inf is too large' optimizer.lr=1e999
set_ 2 'sync.period = 0 is out of range: it must be from 1 to' sync.period=0
set_ 2 'compress.density = 2 is out of range' compress.method=topk compress.density=2
set_ 2 'optimizer.milestones has 65 entries, and 64 is the most' "optimizer.milestones=[$(seq -s, 1 65)]"
set_ 2 'compress.warmup has 33 densities, and 32 is the most' compress.method=topk "compress.warmup=[$(printf '0.5, %.0s' $(seq 32))0.5]"
set_ 2 'output.dir is an empty string' 'output.dir=""'
set_ 2 'there is no "="' sync.period
set_ 2 '"4x" is not a value' sync.period=4x
set_ 2 '"two words" is not a value' 'output.name=two words'
set_ 2 'is not a key' '.period=4'

# ---- the config: what only shows together ----

small='model.width=0.05 data.name=synthetic data.images=64 data.test_images=16 train.batch=8'
# shellcheck disable=SC2086
set_ 2 'world_size = 3 (--set), but 1 process was started' world_size=3 $small
# shellcheck disable=SC2086
set_ 2 'train.batch (--set) lists 2 batch sizes, but 1 worker trains' $small 'train.batch=[8, 8]'
# shellcheck disable=SC2086
set_ 2 'use a smaller train.batch or fewer workers' $small train.batch=65
# shellcheck disable=SC2086
set_ 2 'optimizer.schedule = "step" needs milestones' $small optimizer.schedule=step
# shellcheck disable=SC2086
set_ 2 'optimizer.milestones must increase' $small optimizer.schedule=step 'optimizer.milestones=[5, 3]'
# shellcheck disable=SC2086
set_ 2 'optimizer.warmup_epochs is 20, longer than the run' $small optimizer.warmup_epochs=20
dgc="$small compress.method=dgc"
# shellcheck disable=SC2086
set_ 2 'has the momentum itself' $dgc sync.algorithm=ssgd
# shellcheck disable=SC2086
set_ 2 'does not work with optimizer.name = "adamw"' $dgc sync.algorithm=ssgd optimizer.name=adamw
# shellcheck disable=SC2086
set_ 2 'that one averages something else' $dgc sync.algorithm=local optimizer.momentum=0
# shellcheck disable=SC2086
set_ 2 'set compress.nesterov = true and optimizer.nesterov = false' $dgc sync.algorithm=ssgd optimizer.momentum=0 optimizer.nesterov=true
# shellcheck disable=SC2086
set_ 2 'looks ahead along a velocity' $dgc sync.algorithm=ssgd optimizer.momentum=0 compress.momentum=0 compress.nesterov=true
mkdir "$tmp/used" && : >"$tmp/used/config.cfg"
: >"$tmp/empty.cfg"
refused 2 "output.dir: $tmp/used holds an earlier run" --set output.dir="$tmp/used" --set comm.transport=self --set data.name=synthetic \
	--set data.images=64 --set data.test_images=16 --set model.width=0.05 --set train.batch=8 "$tmp/empty.cfg"

n=$((n + 1))
printf 'modle: { };\ntrain: { batch = 0;\n sede = 1; };\nsync: { algorithm = "x"; };\n' >"$tmp/run.cfg"
"$bin" --set a.b=1 "$tmp/run.cfg" >/dev/null 2>"$tmp/err"
if [ "$(grep -c '^error:' "$tmp/err")" -eq 5 ]; then
	echo "ok $n - five mistakes are told at once"
else
	echo "not ok $n - five mistakes are told at once"
	sed 's/^/# /' "$tmp/err"
fi

# ---- data files: Fashion-MNIST's format, with a handful of images ----

zeros() { head -c "$1" /dev/zero; }
images() { printf '\000\000\010\003\000\000\000\010\000\000\000\034\000\000\000\034'; zeros 6272; }
labels() { printf '\000\000\010\001\000\000\000\010\001\002\003\004\005\006\007\010'; }
d=$tmp/idx

whole()         # four files that are right: 8 images each
{
	rm -rf "$d"
	mkdir "$d"
	images >"$d/train-images-idx3-ubyte"
	labels >"$d/train-labels-idx1-ubyte"
	images | gzip -c >"$d/t10k-images-idx3-ubyte.gz"
	labels | gzip -c >"$d/t10k-labels-idx1-ubyte.gz"
}
mnist() { set_ "$@" data.name=fashion-mnist data.dir="$d" model.width=0.05 train.batch=4; }

whole
: >"$tmp/run.cfg"
accepted 'eight images in idx files' --dry-run --set comm.transport=self --set data.name=fashion-mnist --set data.dir="$d" \
	--set model.width=0.05 --set train.batch=4 "$tmp/run.cfg"
rm "$d/t10k-images-idx3-ubyte.gz"
mnist 3 'missing: 1 of 4'
rm -rf "$d"
mnist 3 'apt-get install dataset-fashion-mnist'
whole
images | head -c 5000 >"$d/train-images-idx3-ubyte"
mnist 3 'train-images-idx3-ubyte: truncated: expected 6272 bytes'
whole
images | gzip -c | head -c 40 >"$d/t10k-images-idx3-ubyte.gz"
mnist 3 't10k-images-idx3-ubyte.gz: truncated'
whole
{ images | gzip -c | head -c 20; printf 'rubbish rubbish rubbish'; } >"$d/t10k-images-idx3-ubyte.gz"
mnist 3 'damaged gzip data'
whole
labels >"$d/train-images-idx3-ubyte"
mnist 3 'expected magic 0x00000803'
whole
echo 'this is no gzip file, it only says so' >"$d/t10k-labels-idx1-ubyte.gz"
mnist 3 'expected magic 0x00000801'
whole
: >"$d/train-labels-idx1-ubyte"
mnist 3 'train-labels-idx1-ubyte: truncated'
whole
{ printf '\000\000\010\003\000\000\000\010\000\000\000\040\000\000\000\040'; zeros 8192; } >"$d/train-images-idx3-ubyte"
mnist 3 'expected images of 28 x 28, found 32 x 32'
whole
printf '\000\000\010\001\000\000\000\010\001\002\003\004\005\006\007\012' >"$d/train-labels-idx1-ubyte"
mnist 3 'label 7 is 10, expected 0 to 9'
whole
printf '\000\000\010\001\000\000\000\007\001\002\003\004\005\006\007' >"$d/train-labels-idx1-ubyte"
mnist 3 'has 7 labels'
whole
zeros 5 >>"$d/train-images-idx3-ubyte"
mnist 3 'expected 6272 bytes of pixels after the header, found more'
whole
mnist 3 'data.images = 9' data.images=9

# ---- data files: CIFAR-10 ----

c=$tmp/cifar
cifar() { set_ "$@" data.name=cifar10 data.dir="$c" data.images=64 data.test_images=16 model.width=0.05 train.batch=8; }
whole_cifar()
{
	rm -rf "$c"
	mkdir "$c"
	for i in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
		truncate -s 30730000 "$c/$i.bin"        # sparse: black images of class 0
	done
}
cifar 3 'missing: 6 of 6'
whole_cifar
rm "$c/data_batch_4.bin"
cifar 3 'missing: 1 of 6'
whole_cifar
truncate -s 30000000 "$c/test_batch.bin"
cifar 3 'test_batch.bin: expected 30730000 bytes'
whole_cifar
truncate -s 30740000 "$c/data_batch_1.bin"
cifar 3 'data_batch_1.bin: expected 30730000 bytes'
whole_cifar
printf '\012' | dd of="$c/data_batch_1.bin" bs=1 seek=9219 conv=notrunc 2>/dev/null
cifar 3 'record 3 has label 10, expected 0 to 9'

echo "1..$n"
