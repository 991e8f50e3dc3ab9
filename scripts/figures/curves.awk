# Points to a figure (SVG, standard output): speed-up against T_comm / T_comp, a step on the left, to the same loss on the right.
#
#   awk -f curves.awk POINTS
#
# Lines "SERIES X Y", SERIES is PANEL-NAME (measured) or PANEL-NAME-model (dashed); and "band FROM TO", the ratios of the paper's cluster.
BEGIN {
	width = 940
	height = 430
	top = 60
	bottom = 345
	panels = split("step loss", panel)
	title["step"] = "a step"
	title["loss"] = "to the same loss"
	names = split("ssgd buckets local", name)
	label["ssgd"] = "S-SGD"
	label["buckets"] = "S-SGD, sending during backward"
	label["local"] = "Local SGD, same period"
	colour["ssgd"] = "#1f5fa8"
	colour["buckets"] = "#b8431f"
	colour["local"] = "#2f8a4b"
	left["step"] = 60
	left["loss"] = 520
	across = 390
	from = 0.08
	to = 12.5
	ceiling = 5.5
	claim_from = 2                  # of the abstract: 2-3 times
	claim_to = 3
}

$1 == "band" { band_from = $2; band_to = $3; next }
{ n[$1]++; px[$1, n[$1]] = $2; py[$1, n[$1]] = $3 }

function x(p, v) { return left[p] + across * log(v / from) / log(to / from) }
function y(v) { return bottom - (bottom - top) * v / ceiling }
function line(x1, y1, x2, y2, style) { printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style }
function text(x1, y1, s, style) { printf "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x1, y1, style, s }
function box(x1, y1, x2, y2, style) {
	printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" %s/>\n", x1, y1, x2 - x1, y2 - y1, style
}

function axes(p,    v, i, ticks, tick) {
	box(x(p, band_from), top, x(p, band_to), bottom, "fill=\"#ececec\"")
	box(x(p, band_from), y(claim_to), x(p, band_to), y(claim_from), "fill=\"#f7d774\" stroke=\"#a8842a\" stroke-width=\"0.8\"")
	for (v = 0; v <= ceiling; v++) {
		line(left[p], y(v), left[p] + across, y(v), "stroke=\"" (v == 1 ? "#777777" : "#dddddd") "\" stroke-width=\"0.8\"")
		text(left[p] - 8, y(v) + 4, v " ×", "text-anchor=\"end\"")
	}
	ticks = split("0.1 0.2 0.5 1 2 5 10", tick)
	for (i = 1; i <= ticks; i++) {
		line(x(p, tick[i]), bottom, x(p, tick[i]), bottom + 5, "stroke=\"black\"")
		text(x(p, tick[i]), bottom + 19, tick[i], "text-anchor=\"middle\"")
	}
	line(left[p], bottom, left[p] + across, bottom, "stroke=\"black\"")
	line(left[p], top, left[p], bottom, "stroke=\"black\"")
	text(left[p] + across / 2, top - 12, title[p], "text-anchor=\"middle\" font-weight=\"bold\"")
	text(left[p] + across / 2, bottom + 40, "T_comm / T_comp", "text-anchor=\"middle\"")
}

function curve(p, a,    s, i, style) {
	style = "fill=\"none\" stroke=\"" colour[a] "\" stroke-width=\"1.6\""
	s = p "-" a "-model"
	printf "<polyline %s stroke-dasharray=\"5 4\" points=\"", style
	for (i = 1; i <= n[s]; i++)
		printf "%.1f,%.1f ", x(p, px[s, i]), y(py[s, i])
	print "\"/>"
	s = p "-" a
	for (i = 1; i <= n[s]; i++)
		printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x(p, px[s, i]), y(py[s, i]), colour[a]
}

END {
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" ", width, height, width, height
	print "font-family=\"sans-serif\" font-size=\"13\">"
	box(0, 0, width, height, "fill=\"white\"")
	text(width / 2, 22, "How many times faster CoCoD-SGD is than …", "text-anchor=\"middle\" font-size=\"15\"")
	for (i = 1; i <= panels; i++) {
		axes(panel[i])
		for (j = 1; j <= names; j++)
			curve(panel[i], name[j])
	}
	at = 24
	for (j = 1; j <= names; j++) {
		printf "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/>\n", at, height - 19, colour[name[j]]
		text(at + 9, height - 15, label[name[j]], "")
		at += 9 + 7 * length(label[name[j]]) + 24
	}
	line(at, height - 19, at + 30, height - 19, "stroke=\"black\" stroke-dasharray=\"5 4\"")
	text(at + 36, height - 15, "formulas", "")
	at += 118
	box(at, height - 26, at + 18, height - 12, "fill=\"#ececec\" stroke=\"#bbbbbb\"")
	text(at + 24, height - 15, "the paper&#8217;s cluster", "")
	at += 168
	box(at, height - 26, at + 18, height - 12, "fill=\"#f7d774\" stroke=\"#a8842a\"")
	text(at + 24, height - 15, "its 2&#8211;3 ×", "")
	print "</svg>"
}
