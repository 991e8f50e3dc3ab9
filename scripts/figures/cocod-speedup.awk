# From the metrics.csv of all runs to tables (Markdown, standard output) and points for curves.awk (the file of -v points=FILE).
#
#   awk -v period=K -v step_ms=T_COMP -v window=W -v band="FROM TO" -v points=FILE -f cocod-speedup.awk DIR/ALGORITHM-RATIO-1/metrics.csv …
#
# Algorithms: ssgd, buckets (S-SGD that sends during backward), local, cocod. Loss: of a step's batches of all workers, each by its own
# model, the mean of this step and the window - 1 before it. The target is the lowest that all of them reach, rounded up to 0.01.
FNR == 1 {
	n = split(FILENAME, part, "/")
	split(part[n - 1], field, "-")
	name = field[1] SUBSEP field[2]
	if (!(field[2] in known)) {
		known[field[2]] = 1
		ratio[++ratios] = field[2]
	}
	for (i = 1; i <= split($0, head, ","); i++)
		column[head[i]] = i
	next
}

{
	split($0, cell, ",")
	steps[name] = FNR - 1
	loss[name, FNR - 1] = cell[column["loss"]]
	at[name, FNR - 1] = cell[column["virtual_s"]]
}

# Seconds a step, over whole periods: behind the first one, in which CoCoD has nothing to wait for.
function per_step(a, r,    last) {
	last = int(steps[a, r] / period) * period
	return (at[a, r, last] - at[a, r, period]) / (last - period)
}

function smooth(a, r, t,    i, sum) {
	for (i = t - window + 1; i <= t; i++)
		sum += loss[a, r, i]
	return sum / window
}

function lowest(a, r,    t, low) {
	for (t = window; t <= steps[a, r]; t++)
		if (t == window || smooth(a, r, t) < low)
			low = smooth(a, r, t)
	return low
}

function reached(a, r,    t) {
	for (t = window; t <= steps[a, r] && smooth(a, r, t) > target; t++)
		;
	return t
}

function max(a, b) { return a > b ? a : b }

function header() {
	printf "| T_comm / T_comp | S-SGD | S-SGD, overlapping | Local SGD | CoCoD-SGD "
	print "| over S-SGD | over S-SGD, overlapping | over Local SGD |"
	print "|---|---|---|---|---|---|---|---|"
}

# What the formulas of docs/cocod-speedup.md say, in units of T_comp.
function model(a, r) {
	return a == "ssgd" ? 1 + r : a == "buckets" ? 1 / 3 + max(2 / 3, r) : a == "local" ? 1 + r / period : max(1, r / period)
}

function point(series, r, y) { printf "%s %s %.6g\n", series, r, y >points }

function against(a, panel, r, y,    f) {
	f = model(a, r) / model("cocod", r) / (panel == "loss" ? factor[a] : 1)
	point(panel "-" a, r, y)
	return sprintf("%.2f (%.2f)", y, f)
}

END {
	for (i = 1; i <= 3; i++) {
		a = i == 1 ? "ssgd" : i == 2 ? "local" : "cocod"
		low[a] = lowest(a, ratio[1])
		if (low[a] > target)
			target = low[a]
	}
	target = int(target * 100 + 1) / 100
	for (a in low)
		need[a] = reached(a, ratio[1])
	need["buckets"] = need["ssgd"]
	for (a in need)
		factor[a] = need["cocod"] / need[a]

	print "Speed-up of CoCoD-SGD a step; in brackets what the formulas say. Milliseconds of the virtual clock."
	print ""
	header()
	for (i = 1; i <= ratios; i++) {
		r = ratio[i]
		own = per_step("cocod", r)
		printf "| %s | %.1f | %.1f | %.1f | %.1f | %s | %s | %s |\n", r, 1e3 * per_step("ssgd", r), 1e3 * per_step("buckets", r),
			1e3 * per_step("local", r), 1e3 * own, against("ssgd", "step", r, per_step("ssgd", r) / own),
			against("buckets", "step", r, per_step("buckets", r) / own), against("local", "step", r, per_step("local", r) / own)
		sent = per_step("ssgd", r) * 1e3 - step_ms
		if (!(sent / step_ms / r > 0.99 && sent / step_ms / r < 1.01)) {
			printf "T_comm / T_comp is %s on the clock, not %s\n", sent / step_ms, r >"/dev/stderr"
			failed = 1
		}
	}
	print ""
	printf "To a loss of %.2f (mean of %d steps): %d steps of S-SGD, %d of Local SGD, %d of CoCoD-SGD: %.2f and %.2f times as many.",
		target, window, need["ssgd"], need["local"], need["cocod"], factor["ssgd"], factor["local"]
	print " Seconds of the virtual clock; in brackets the formulas with these numbers of steps."
	print ""
	header()
	for (i = 1; i <= ratios; i++) {
		r = ratio[i]
		own = at["cocod", r, need["cocod"]]
		s = at["ssgd", r, need["ssgd"]]
		b = per_step("buckets", r) * need["buckets"]
		l = at["local", r, need["local"]]
		printf "| %s | %.2f | %.2f | %.2f | %.2f | %s | %s | %s |\n", r, s, b, l, own, against("ssgd", "loss", r, s / own),
			against("buckets", "loss", r, b / own), against("local", "loss", r, l / own)
	}
	for (x = 0.1; x < 10.2; x *= 1.05) {
		for (i = 1; i <= 3; i++) {
			a = i == 1 ? "ssgd" : i == 2 ? "buckets" : "local"
			point("step-" a "-model", x, model(a, x) / model("cocod", x))
			point("loss-" a "-model", x, model(a, x) / model("cocod", x) / factor[a])
		}
	}
	point("band", substr(band, 1, index(band, " ") - 1), substr(band, index(band, " ") + 1))
	exit failed
}
