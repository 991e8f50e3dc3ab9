#!/bin/sh
# Who may include whom, as TAP: cmd -> {models, data, comm} -> core -> core/cpu only through device_find(). models, data and comm do not
# see each other, core sees none of them. Foreign libraries stay in their corner, and the preprocessor takes no decisions.

cd "$(dirname "$0")/.." || exit 1
count=0 failed=0

# CLAIM OFFENDERS: holds if there are none.
claim()
{
	count=$((count + 1))
	if [ -z "$2" ]; then
		echo "ok $count - $1"
	else
		failed=$((failed + 1))
		echo "not ok $count - $1"
		echo "$2" | sed 's/^/#   /'
	fi
}

# Every include of a file of ours as "from to", both from the top of the tree.
includes()
{
	find cmd core comm models data -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort | while read -r file; do
		sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$file" | while read -r to; do
			path=$(dirname "$file")/$to
			# a/b/../c -> a/c
			while case $path in *[!/.]*/../*) true ;; *) false ;; esac; do
				path=$(echo "$path" | sed 's#[^/][^/]*/\.\./##')
			done
			echo "$file $path"
		done
	done
}

edges=$(includes)
# FROM TO: the edges between two folders, regular expressions at the start of the path
edge() { echo "$edges" | grep "^$1[^ ]* $2"; }

found=$(echo "$edges" | wc -l)
claim "includes are found" "$([ "$found" -gt 50 ] || echo "only $found")"
claim "every include names a file that is there" "$(echo "$edges" | while read -r from to; do [ -f "$to" ] || echo "$from: $to"; done)"
claim "nobody includes cmd/" "$(edge '\(core\|comm\|models\|data\)/' cmd/)"
claim "models/ sees neither data/ nor comm/" "$(edge models/ '\(data\|comm\)/')"
claim "data/ sees neither models/ nor comm/" "$(edge data/ '\(models\|comm\)/')"
claim "comm/ sees neither models/ nor data/" "$(edge comm/ '\(models\|data\)/')"
claim "core/ sees none of models/, data/, comm/" "$(edge core/ '\(models\|data\|comm\)/')"
claim "a backend is reached through device_find() only" "$(edge '\(cmd\|comm\|models\|data\)/' 'core/\(cpu\|cuda\)/')"
claim "core/ itself includes no backend" "$(echo "$edges" | grep '^core/[^/ ]* core/\(cpu\|cuda\)/')"

sources=$(find cmd core comm models data -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
# shellcheck disable=SC2086
claim "mpi.h only in comm/" "$(grep -l '#[ ]*include[ ]*<mpi\.h>' $sources | grep -v '^comm/')"
claim "oneDNN's headers only in core/cpu/dnnl*" "$(grep -lE '#[ ]*include[ ]*<(oneapi/dnnl/)?dnnl[_a-z]*\.h>' $sources | grep -v '^core/cpu/dnnl[^/]*$')"
claim "CUDA's headers only in core/cuda/ and comm/comm_nccl.c" "$(grep -lE '#[ ]*include[ ]*<(cuda|cudnn|cublas|nccl)[_a-zA-Z0-9]*\.h>' $sources | grep -vE '^(core/cuda/|comm/comm_nccl)')"
claim "libconfig.h only in core/config_*" "$(grep -lE '#[ ]*include[ ]*<libconfig\.h>' $sources | grep -v '^core/config_')"

# A header guard is #ifndef X_H in front of #define X_H; extern "C" stands between #ifdef __cplusplus and #endif. Compatibility headers
# (one a library, two for instruction sets) are there to decide.
claim "no #if outside header guards, extern \"C\" and the compatibility headers" "$(for file in $sources; do
	case $file in core/cpu/dnnl.h | core/cpu/kernel/simd.h | core/cpu/kernel/isa.h) continue ;; esac
	awk -v file="$file" '
		/^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else)/ {
			if ($0 ~ /^#ifndef [A-Z0-9_]+_(H|CUH)$/ || $0 ~ /^#ifdef __cplusplus$/)
				next
			print file ":" FNR ": " $0
		}' "$file"
done)"

# The lists of models and data sets are made to be included twice, each time with another meaning of their one macro.
claim "every header but the lists has a guard" "$(for file in $(find cmd core comm models data -name '*.h' ! -name '*_list.h' -o -name '*.cuh' | sort); do
	grep -q '^#ifndef [A-Z0-9_]*_\(H\|CUH\)$' "$file" || grep -q '^#pragma once' "$file" || echo "$file"
done)"

claim "no typedef of a struct" "$(grep -nE '^[ \t]*typedef[ \t]+(struct|union|enum)' $sources)"

echo "1..$count"
[ $failed -eq 0 ]
