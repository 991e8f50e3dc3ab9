/*
 * Parameter servers: sums to the bit, S-SGD and its kin over them, SSP and ASP followed step by step from the servers' logs, and the
 * bound on staleness when a worker is slow. With an argument only the groups whose name contains it.
 */
#include "../comm/topology/ps.h"
#include "oracle/ssp.h"
#include "sync_kit.h"

static int P, R, W, S;          /* ranks, this one; workers and servers of the kits that are open */
static struct kit kits[2];      /* thread, hook */
static struct kit plain;        /* the workers alone, all-reduce */

static void kits_open(int servers)
{
	S = servers;
	W = P - S;
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	plain = kit_open(PROGRESS_HOOK);
	ps_open(kits[0].comm, S);
	ps_open(kits[1].comm, S);
	comm_narrow(plain.comm, W);
}

static void kits_close(void)
{
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	kit_close(&plain);
}

/* ---- running ---- */

static const struct oracle_algorithm *kin;      /* whose own keys are given too; NULL: ssp or asp */

static int keys(const struct oracle_setup *p, const char **sets)
{
	int count = kin && kin->keys ? kin->keys(p, sets) : 0;

	sets[count++] = xasprintf("topology.kind=ps");
	sets[count++] = xasprintf("topology.servers=%d", (int)p->key[SSP_SERVERS]);
	if (!kin) {
		sets[count++] = xasprintf("sync.staleness=%d", p->key[SSP_STALENESS] < 0 ? 0 : (int)p->key[SSP_STALENESS]);
		sets[count++] = xasprintf("sync.read_every=%d", (int)p->key[SSP_READ_EVERY]);
	}
	return count;
}

static const struct oracle_algorithm ssp = { .name = "ssp", .keys = keys }, asp = { .name = "asp", .keys = keys };

static struct oracle_setup ps_setup(const struct oracle_algorithm *a, int period, int optimizer, const int *batch, const char *fusion,
                                    int staleness, int read_every)
{
	struct oracle_setup p = setup(a, DENSE, 1, period, optimizer, batch, "model", fusion);
	double total = 0;

	p.workers = W;
	for (int i = 0; i < W; i++)
		total += batch[i];
	for (int i = 0; i < W; i++)
		p.weight[i] = batch[i] / total;
	p.key[SSP_SERVERS] = S;
	p.key[SSP_STALENESS] = staleness;
	p.key[SSP_READ_EVERY] = read_every;
	p.seed = 42;
	return p;
}

/* What a run leaves behind: a worker's trace, a server's record and log. */
struct outcome {
	struct course trace;
	struct ps_record record;
	struct ssp_log log;
	double sent;
};

static void keep_event(void *context, int64_t clock, const char *what, int64_t worker, const char *why)
{
	struct ssp_log *log = context;

	(void)why;
	if (!strcmp(what, "ticket"))
		return;
	CHECK(log->events < SSP_MOST_EVENTS);
	log->event[log->events++] = (struct ssp_event){ !strcmp(what, "read"), (int)worker, clock };
}

static struct outcome *run_ps(struct kit *k, const struct oracle_setup *p, const char *fusion, const struct manner *how)
{
	struct outcome *out = xcalloc(1, sizeof(*out));
	int64_t before = k->comm->bytes_sent;

	course_open(&out->trace, how->steps, KIT_N);
	if (ps_serves(k->comm)) {
		ps_serve(k->comm, &out->record, keep_event, &out->log);
	} else {
		kit_train(k, p, "model", fusion, how, &out->trace);
		ps_end(k->comm);
	}
	out->sent = (double)(k->comm->bytes_sent - before);
	return out;
}

static void outcome_free(struct outcome *out)
{
	course_close(&out->trace);
	free(out);
}

/* Do all workers hold the same bits? Servers have nothing to say. */
static bool same_on_workers(const void *data, size_t bytes)
{
	uint64_t mine = hash_bytes(data, bytes), *all = xcalloc((size_t)P, sizeof(*all));
	bool same = true;

	comm_host_gather(verdicts, &mine, all, sizeof(mine));
	for (int r = 0; r < W; r++)
		same = same && all[r] == all[0];
	free(all);
	return same;
}

/* ---- shards and sums ---- */

static void test_shards(void)
{
	bool cover = true, aligned = true, even_cut = true;

	for (int64_t n = 1; n < 700; n += n < 70 ? 1 : 37)
		for (int servers = 1; servers <= 9; servers++) {
			int64_t end = 0, from, to, least = n, most = 0;

			for (int s = 0; s < servers; s++) {
				ps_shard(n, servers, s, &from, &to);
				cover = cover && from == end && to >= from;
				aligned = aligned && (from % ARENA_ALIGN == 0 || from == n);
				least = to - from < least ? to - from : least;
				most = to - from > most ? to - from : most;
				end = to;
			}
			cover = cover && end == n;
			even_cut = even_cut && most - least <= 2 * ARENA_ALIGN - 1;
		}
	all_ok(cover && aligned && even_cut, "shards: disjoint, aligned, together the vector, equal up to a unit of the alignment");
}

/* Values whose float sum depends on the order; want: in the order of the ranks. */
static void draw_values(int64_t n, bool most, float *mine, float *want)
{
	for (int w = 0; w < W; w++)
		for (int64_t i = 0; i < n; i++) {
			float v = (float)noise(9, (uint64_t)n, (uint64_t)w, (uint64_t)i) * (w % 2 ? 1e3f : 1);

			want[i] = w == 0 ? v : !most ? want[i] + v : v > want[i] ? v : want[i];
			if (w == R)
				mine[i] = v;
		}
}

/* One round after the other, each worker late in another one. */
static bool sums_are_right(struct kit *k, int64_t n, bool most)
{
	size_t bytes = (size_t)n * sizeof(float);
	float *mine = xcalloc((size_t)n, sizeof(float)), *want = xcalloc((size_t)n, sizeof(float)), *got = xcalloc((size_t)n, sizeof(float));
	const struct mem_ops *mem = k->dev->ops->mem;
	void *buffer = mem->alloc(k->dev, bytes);
	bool right = true;

	draw_values(n, most, mine, want);
	if (ps_serves(k->comm))
		ps_serve(k->comm, &(struct ps_record){ 0 }, NULL, NULL);
	for (int round = 0; round < 3 && R < W; round++) {
		k->comm->delay = (R + round) % 3 == 0 ? 2e-3 : 0;
		mem->copy(k->compute, buffer, mine, bytes, COPY_TO_DEVICE);
		comm_fork(k->comm, k->compute);
		comm_delay(k->comm);
		comm_allreduce(k->comm, buffer, n, DTYPE_F32, most ? REDUCE_MAX : REDUCE_SUM);
		comm_mark(k->comm, k->comm->forked);
		k->dev->ops->stream->wait(k->compute, k->comm->forked);
		mem->copy(k->compute, got, buffer, bytes, COPY_TO_HOST);
		k->dev->ops->stream->sync(k->compute);
		right = right && !memcmp(got, want, bytes);
	}
	k->comm->delay = 0;
	if (R < W)
		ps_end(k->comm);
	mem->free(k->dev, buffer);
	free(mine);
	free(want);
	free(got);
	return right;
}

static void test_sums(void)
{
	static const int64_t lengths[] = { 1, 15, 16, 17, 33, 400, 70001, 1100000 };
	bool right = true;

	if (!wanted("sums"))
		return;
	for (int k = 0; k < 2; k++) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
			right = sums_are_right(&kits[k], lengths[i], i % 4 == 2) && right;
	}
	all_ok(right, "S=%d: sums are those in the order of the ranks, to the bit, whoever is late", S);
}

/* ---- S-SGD and its kin ---- */

/* All that only sums: against the oracle, whose workers know no servers. */
static void test_over_servers(const struct oracle_algorithm *a)
{
	static const char *const fusions[] = { "none", "size", "model" };
	struct oracle_algorithm served = *a;
	bool same = true, shared = true;
	double error = 0;
	struct rng rng;

	rng_init(&rng, 4, RNG_TEST, hash_bytes(a->name, strlen(a->name)), (uint32_t)S);
	served.keys = keys;
	kin = a;
	for (int i = 0; i < 3; i++) {
		struct manner how = { .steps = 13, .batch = i ? uneven : even, .delay = R % 2 ? 1e-3 : 0 }, looks = how;
		struct oracle_setup p = ps_setup(&served, a->every_step ? 1 : 3, i, how.batch, fusions[i], 0, 1);
		struct oracle_run run = { 0 };
		struct outcome *out[2];

		if (a->draw)
			a->draw(&p, &rng, how.steps);
		if (R < W)
			run = oracle_run(&p, &how);
		looks.look = true;
		for (int d = 0; d < 2; d++)
			out[d] = run_ps(&kits[d], &p, fusions[i], d ? &looks : &how);
		for (int64_t j = 0; j < how.steps * KIT_N && R < W; j++) {
			error = worst(error, fabs(out[0]->trace.x[j] - run.x[j]));
			if (j / KIT_N % 3 == 1)
				error = worst(error, fabs(out[1]->trace.consensus[j] - run.mean[j]));
		}
		same = same && !memcmp(out[0]->trace.x, out[1]->trace.x, (size_t)(how.steps * KIT_N) * sizeof(float));
		shared = same_on_workers(out[1]->trace.consensus, (size_t)(how.steps * KIT_N) * sizeof(float)) && shared;
		shared = same_on_workers(course_state(&out[0]->trace, "reference"), KIT_N * sizeof(float)) && shared;
		for (int64_t t = 0; t < how.steps; t++)
			shared = (same_on_workers(out[0]->trace.x + t * KIT_N, KIT_N * sizeof(float)) || R >= W || !run.shared[t]) && shared;
		for (int d = 0; d < 2; d++)
			outcome_free(out[d]);
		if (R < W)
			oracle_run_free(&run);
	}
	kin = NULL;
	error = most_everywhere(isnan(error) ? INFINITY : error);
	all_ok(error <= BOUND, "S=%d, %s: models and consensus at most %.1e from the oracle (bound %.0e)", S, a->name, error, BOUND);
	all_ok(same && shared, "S=%d, %s: the same bits with thread and hook, looked at or not, and where all workers share a model", S, a->name);
}

static void test_kin(void)
{
	for (int i = 0; oracle_list[i]; i++) {
		const char *topology = sync_find(oracle_list[i]->name)->topology;

		if (topology && strstr(topology, "|ps") && wanted(oracle_list[i]->name))
			test_over_servers(oracle_list[i]);
	}
}

/* Shards that no transport sends before the other side asks for them: whoever waits in a circle stands still. */
static void test_long(void)
{
	enum { N = 100000, STEPS = 60 };
	struct kit *k = &kits[S % 2];
	const struct mem_ops *mem = k->dev->ops->mem;
	float *update = mem->alloc(k->dev, N * sizeof(float)), *host = xcalloc(N, sizeof(float));
	bool right = true;

	if (ps_serves(k->comm))
		ps_serve(k->comm, &(struct ps_record){ 0 }, NULL, NULL);
	for (int t = 0; t < STEPS && R < W; t++) {
		struct ps_step step = { .clock = t, .uses = t % 8 > 0, .least = t - R % 2 };

		for (int64_t j = 0; j < N; j++)
			host[j] = (float)(1 + j % 7);
		mem->copy(k->compute, update, host, N * sizeof(float), COPY_TO_DEVICE);
		comm_fork(k->comm, k->compute);
		k->comm->delay = (R + t) % W == 0 ? 1e-3 : 0;
		comm_delay(k->comm);
		ps_push(k->comm, update, N, &step);
		k->dev->ops->stream->sync(k->comm->stream);
	}
	k->comm->delay = 0;
	if (R < W) {
		ps_total(k->comm, update, N);
		ps_end(k->comm);
		mem->copy(k->compute, host, update, N * sizeof(float), COPY_TO_HOST);
		k->dev->ops->stream->sync(k->compute);
	}
	for (int64_t j = 0; j < N && R < W; j++)
		right = right && host[j] == (float)(STEPS * W * (1 + j % 7));
	all_ok(right, "S=%d: long updates, read or not, arrive without standing still", S);
	mem->free(k->dev, update);
	free(host);
}

/* Requests of 56 bytes in front of each shard, vectors once up and once down to each worker. */
static void test_bytes(void)
{
	struct manner how = { .steps = 9, .batch = even };
	struct oracle_algorithm served = oracle_ssgd;
	struct oracle_setup p[2];

	if (!wanted("bytes"))
		return;
	served.keys = keys;
	p[0] = ps_setup(&served, 1, 0, even, "model", 0, 1);
	p[1] = ps_setup(&ssp, 1, 0, even, "model", 4, 2);               /* reads after steps 1, 3, 5, 7 */
	for (int i = 0; i < 2; i++) {
		struct outcome *out = run_ps(&kits[0], &p[i], "model", &how);
		double up = (double)how.steps * (4 * KIT_N + 56 * S), down = (i ? 4 : 9) * 4 * KIT_N * W;
		double state = i * 56.0 * S, ends = 56.0 * S,         /* ssp's state is the servers' */
		       served_bytes = sum_everywhere(R < W ? 0 : out->sent);

		all_ok(R >= W || (out->trace.bytes == up + state && out->sent == up + state + ends &&
		                  fabs(out->trace.said * (double)how.steps - up) < 1e-6),
		       "S=%d, %s: a worker sends its vectors and %d bytes a request", S, p[i].algorithm->name, 56);
		all_ok(served_bytes == down + i * 4 * KIT_N * W, "S=%d, %s: the servers send what was read", S, p[i].algorithm->name);
		outcome_free(out);
	}
}

/* ---- SSP and ASP ---- */

static void test_lockstep(void)
{
	if (!wanted("lockstep"))
		return;
	for (int o = 0; o < 4; o++) {
		struct manner how = { .steps = 13, .batch = uneven }, late = how;
		struct oracle_setup p = ps_setup(&ssp, 1, o, uneven, "size", 0, 1), q = ps_setup(&oracle_ssgd, 1, o, uneven, "size", 0, 1);
		struct outcome *out[2];
		struct course want;
		double d = 0;
		bool same;

		late.delay = R == 0 ? 3e-3 : 0;
		out[0] = run_ps(&kits[0], &p, "size", &how);
		late.look = true;
		out[1] = run_ps(&kits[1], &p, "size", &late);
		course_open(&want, how.steps, KIT_N);
		if (R < W)
			kit_train(&plain, &q, "model", "size", &how, &want);
		for (int64_t j = 0; j < how.steps * KIT_N; j++)
			d = worst(d, fabs((double)out[0]->trace.x[j] - want.x[j]));
		d = most_everywhere(isnan(d) ? INFINITY : d);
		all_ok(o == 3 && W > 1 ? d > 100 * BOUND : d <= BOUND, "S=%d: ssp of staleness 0 is %sssgd, %s: %.1e", S,
		       o == 3 && W > 1 ? "not " : "", optimizers[o].name, d);
		same = same_on_workers(out[0]->trace.x, (size_t)(how.steps * KIT_N) * sizeof(float));
		same = !memcmp(out[0]->trace.x, out[1]->trace.x, (size_t)(how.steps * KIT_N) * sizeof(float)) && same;
		all_ok(same && out[0]->log.events == 0, "S=%d: and the same bits everywhere, whoever is late or looks, %s", S, optimizers[o].name);
		course_close(&want);
		outcome_free(out[0]);
		outcome_free(out[1]);
	}
}

struct followed {
	bool whole, ages;
	double error;
	int64_t oldest;
};

/* Runs, collects the servers' logs, and follows them. */
static struct followed follow(struct kit *k, const struct oracle_setup *p, const struct manner *how)
{
	struct outcome *out = run_ps(k, p, "model", how);
	struct ssp_log *log = xcalloc((size_t)P, sizeof(*log));
	int64_t every = (int64_t)p->key[SSP_READ_EVERY], uses = 0, row = how->steps * KIT_N;
	struct followed f = { .ages = true };
	struct ssp_replay r;

	comm_host_gather(verdicts, &out->log, log, sizeof(*log));
	for (int s = 0; s < S && p->key[SSP_STALENESS] == 0; s++)
		ssp_lockstep(p, how->steps, &log[W + s]);
	f.whole = ssp_replay_run(&r, p, how->steps, NULL, log + W);
	f.oldest = r.oldest;
	for (int64_t i = 0; i < row && R < W; i++)
		f.error = worst(f.error, fabs(out->trace.x[i] - r.x[R * row + i]));
	for (int64_t t = 1; how->look && t < how->steps && R < W; t += 3)
		for (int64_t j = 0; j < KIT_N; j++)
			f.error = worst(f.error, fabs(out->trace.consensus[t * KIT_N + j] - r.total[t * KIT_N + j]));
	for (int i = 0; i < PS_AGES; i++)
		uses += out->record.age[i];
	if (R >= W)
		f.ages = uses == W * (how->steps / every) * every && out->record.reads == W * (how->steps / every);
	f.ages = f.ages && most_everywhere((double)out->record.oldest) == (double)r.oldest;
	ssp_replay_close(&r);
	free(log);
	outcome_free(out);
	return f;
}

/* Every bound with every schedule of reads that it allows, all optimizers, someone always late. */
static void test_replay(void)
{
	double error = 0;
	bool whole = true, ages = true;
	int runs = 0;

	if (!wanted("replay"))
		return;
	for (int staleness = -1; staleness <= 3; staleness++)
		for (int every = 1; every <= (staleness < 0 ? 3 : staleness + 1); every++, runs++) {
			const int *batch = runs % 2 ? even : uneven;
			struct manner how = { .steps = 13, .batch = batch, .look = runs % 3 == 0, .delay = (R + runs) % 3 == 0 ? 1e-3 : 0 };
			struct oracle_setup p = ps_setup(staleness < 0 ? &asp : &ssp, 1, runs % 4, batch, "model", staleness, every);
			struct followed f;

			if (runs % 4 == 1) {            /* rates that begin and end at 0 */
				p.rise = 2;
				p.end = 10;
			}
			f = follow(&kits[runs % 2], &p, &how);
			error = worst(error, f.error);
			whole = whole && f.whole;
			ages = ages && f.ages;
		}
	error = most_everywhere(isnan(error) ? INFINITY : error);
	all_ok(whole, "S=%d: %d logs of ssp and asp can be followed to their ends, within their bounds", S, runs);
	all_ok(error <= BOUND, "S=%d: and give the models that the workers had, at most %.1e away (bound %.0e)", S, error, BOUND);
	all_ok(ages, "S=%d: and the staleness that the servers counted", S);
}

/* One worker is slow. Its fellows run ahead as far as they may, and no further. */
static void test_staleness(void)
{
	static const struct { int staleness, every; } cases[] = { { 1, 1 }, { 3, 1 }, { 3, 2 }, { -1, 1 } };

	if (!wanted("staleness"))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int s = cases[i].staleness;
		struct manner how = { .steps = 20, .batch = even, .delay = R == W - 1 ? 8e-3 : 0 };
		struct oracle_setup p = ps_setup(s < 0 ? &asp : &ssp, 1, 1, even, "model", s, cases[i].every);
		struct followed f = follow(&kits[i % 2], &p, &how);

		if (W == 1)
			all_ok(f.oldest == cases[i].every - 1, "one worker is never behind");
		else if (s < 0)
			all_ok(f.whole && f.oldest > 4, "S=%d, asp, a slow worker: models up to %d clocks old", S, (int)f.oldest);
		else
			all_ok(f.whole && f.oldest == s, "S=%d, ssp of staleness %d, reads every %d, a slow worker: at most %d clocks old, and not less",
			       S, s, cases[i].every, (int)f.oldest);
	}
}

static int64_t sum_of(const int64_t *values, int n)
{
	int64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += values[i];
	return sum;
}

/* One worker is slow and takes fewer steps: what is counted is samples. Everything else is as in the logs. */
static void test_tickets(int every, const int *batch, int kit)
{
	enum { MOST = 160 };
	int64_t until[] = { 0, 0, 0 }, taken[ORACLE_WORKERS], *all = xcalloc((size_t)P, sizeof(*all)), samples = 0, most = 0, last = 0;
	struct manner how = { .steps = MOST, .batch = batch, .until = until, .pace = R == W - 1 ? 40e-3 : 1e-3 };
	struct oracle_setup p = ps_setup(&asp, 1, 1, batch, "model", -1, every);
	struct ssp_log *log = xcalloc((size_t)P, sizeof(*log));
	struct outcome *out;
	struct ssp_replay r;
	double error = 0, counted = 0;
	bool whole, right;

	for (int w = 0; w < W; w++) {
		until[0] += 7 * batch[w] - (w == 0);
		until[1] += 16 * batch[w];
		most = batch[w] > most ? batch[w] : most;
	}
	out = run_ps(&kits[kit], &p, "model", &how);
	comm_host_gather(verdicts, &out->log, log, sizeof(*log));
	comm_host_gather(verdicts, &out->trace.taken, all, sizeof(*all));
	memcpy(taken, all, (size_t)W * sizeof(*taken));
	for (int w = 0; w < W; w++)
		samples += taken[w] * batch[w];
	right = samples >= until[1] && samples < until[1] + most;
	all_ok(right && (R >= W || out->trace.claimed == samples), "S=%d, asp, reads every %d: %d samples of %d planned, all know it", S, every,
	       (int)samples, (int)until[1]);
	last = taken[W - 1];
	all_ok(W == 1 || 2 * taken[0] > 3 * last, "S=%d: a fast worker takes %d steps, a slow one %d", S, (int)taken[0], (int)last);
	whole = ssp_replay_run(&r, &p, MOST, taken, log + W);
	for (int64_t i = 0; R < W && i < taken[R] * KIT_N; i++)
		error = worst(error, fabs(out->trace.x[i] - r.x[R * MOST * KIT_N + i]));
	for (int64_t j = 0; R < W && j < KIT_N; j++)
		error = worst(error, fabs(course_state(&out->trace, "consensus")[j] - r.total[(MOST - 1) * KIT_N + j]));
	error = most_everywhere(isnan(error) ? INFINITY : error);
	all_ok(whole && error <= BOUND, "S=%d: the logs, followed, give the same models and consensus: %.1e", S, error);
	for (int i = 0; i < PS_AGES; i++)
		counted += (double)out->record.age[i];
	all_ok(R < W || (counted == (double)sum_of(taken, W) && (out->record.oldest == 0) == (W == 1)),
	       "S=%d: the staleness of every step is counted, and one worker is never behind", S);
	ssp_replay_close(&r);
	outcome_free(out);
	free(log);
	free(all);
}

/* Servers and workers end, others begin with what the workers have kept: the same bits as without the break. */
static void test_resume(const struct oracle_algorithm *a, int staleness, int every, int kit)
{
	enum { STEPS = 13, BREAK = 7 };
	struct snapshot saved = { 0 }, again = { 0 };
	struct manner how = { .steps = STEPS, .batch = uneven }, first = how, second = how;
	struct oracle_setup p = ps_setup(a, 1, kit ? 3 : 1, uneven, "model", staleness, every);
	struct outcome *whole = run_ps(&kits[kit], &p, "model", &how), *part;
	bool same = true;

	first.steps = BREAK;
	first.save = &saved;
	outcome_free(run_ps(&kits[kit], &p, "model", &first));
	second.from = BREAK;
	second.load = &saved;
	second.save = &again;
	part = run_ps(&kits[kit], &p, "model", &second);
	for (int64_t i = BREAK * KIT_N; i < STEPS * KIT_N; i++)
		same = same && whole->trace.x[i] == part->trace.x[i];
	same = same && (R >= W || (saved.same && saved.entries == again.entries));
	all_ok(same, "S=%d, %s: servers and workers that begin with what was kept go on to the same bits", S, a->name);
	snapshot_free(&saved);
	snapshot_free(&again);
	outcome_free(whole);
	outcome_free(part);
}

/* And what tickets were given for. */
static void test_resume_tickets(void)
{
	enum { MOST = 240 };
	int64_t until[2][2] = { { 0, 0 }, { 0, 0 } }, taken[ORACLE_WORKERS], *all = xcalloc((size_t)P, sizeof(*all)), samples = 0;
	struct snapshot saved = { 0 };
	struct manner how = { .steps = MOST, .batch = even, .until = until[0], .save = &saved, .pace = R == 0 ? 3e-3 : 1e-3 };
	struct oracle_setup p = ps_setup(&asp, 1, 1, even, "model", -1, 3);
	struct outcome *out;

	until[0][0] = 5 * 4 * W;
	until[1][0] = 9 * 4 * W;
	out = run_ps(&kits[0], &p, "model", &how);
	how.from = out->trace.taken;
	outcome_free(out);
	how.load = &saved;
	how.save = NULL;
	how.until = until[1];
	out = run_ps(&kits[0], &p, "model", &how);
	comm_host_gather(verdicts, &out->trace.taken, all, sizeof(*all));
	memcpy(taken, all, (size_t)W * sizeof(*taken));
	samples = 4 * sum_of(taken, W);
	all_ok(samples == until[1][0] && (R >= W || out->trace.claimed == samples), "S=%d, asp: and to the planned samples, %d of %d", S,
	       (int)samples, (int)until[1][0]);
	outcome_free(out);
	snapshot_free(&saved);
	free(all);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	test_shards();
	for (int servers = 1; servers <= SSP_MOST_SERVERS && servers < P; servers++) {
		kits_open(servers);
		test_sums();
		test_kin();
		if (wanted("long"))
			test_long();
		test_bytes();
		test_lockstep();
		test_replay();
		test_staleness();
		for (int every = 1; every <= 3 && wanted("tickets"); every += 2)
			test_tickets(every, every == 1 ? even : uneven, every == 1);
		for (int k = 0; k < 2 && wanted("resume"); k++) {
			test_resume(&ssp, 0, 1, k);
			if (W == 1)             /* nobody else whose updates come sooner or later */
				test_resume(&asp, -1, 2, k);
		}
		if (wanted("resume"))
			test_resume_tickets();
		kits_close();
	}
	return ranks_close();
}
