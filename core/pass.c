/*
 * The pass over the bank; see pass.h for the partition. els_pass_run is called by one thread; its items run on the
 * pool's threads. Each worker owns its buffers and each item its posteriors, so nothing is locked; the only
 * shared words are the stop flag and the count of work done.
 */
#include "pass.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mem.h"

enum {
    MAX_CHAINS = 64,
    MIN_ITEMS = 16,             /* with fewer chains, rows are cut into bands */
    MIN_BAND_ROWS = 4,
    MAX_BAND_PAIRS = 1 << 22,   /* rows·W² of a band: one run of rows stays far below 50 ms */
    FLUSH_ADDS = 2048,          /* float32 additions per lane before a flush to float64 */
    POLL_NS = 20 * 1000 * 1000,
};

/* What one worker needs to walk a chain. */
struct worker {
    void *group, *work;
    struct els_lanes *lanes; /* [pairs at once] */
    int64_t polled_ns;
};

struct els_pass {
    const struct els_evaluation *e;
    const struct els_kernel *kernel;
    int64_t groups;
    int chains, bands;
    struct els_sweep *sweep; /* [num_p, bands] */
    int64_t max_adds;        /* candidates that one query can meet in one image */
    int64_t pairs_at_once;

    /* the run under way */
    int64_t first, count;
    void **query;               /* [count] prepared noisy images */
    struct worker *worker;      /* [threads] */
    struct els_posterior *part; /* [chains, bands, count] */
    const struct els_watch *watch;
    atomic_int stop;            /* relaxed: only makes workers leave early */
    atomic_llong done;          /* groups·pairs finished; relaxed: progress only */
};

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int divide_up(int64_t a, int64_t b)
{
    return (int)((a + b - 1) / b);
}

static size_t lane_floats(const struct els_pass *pass, const struct els_sweep *s)
{
    int rows = els_machine_uses_p(s->machine) ? s->band_to - s->band_from : s->shape.h;

    return (size_t)rows * (size_t)s->shape.w * (size_t)s->slots * (size_t)pass->kernel->lanes;
}

/* Pixels that an item's posterior covers: its band, or for is and es the whole image. */
static size_t part_pixels(const struct els_sweep *s)
{
    int rows = els_machine_uses_p(s->machine) ? s->band_to - s->band_from : s->shape.h;

    return (size_t)rows * (size_t)s->shape.w;
}

/* ---- planning ---- */

/* Rows per band: small enough for memory and for a quick look at the watch, and more bands when chains are few. */
static int band_rows(const struct els_pass *pass, int slots, int length)
{
    struct els_shape shape = els_bank_info(pass->e->bank)->shape;
    int64_t row_bytes = (int64_t)shape.w * slots * pass->kernel->lanes * (int64_t)sizeof(float);
    int rows = length;

    if (els_machine_uses_p(pass->e->machine)) {
        rows = min_int(rows, max_int(1, (int)(ELS_WORKER_BYTES / row_bytes)));
        rows = min_int(rows, max_int(MIN_BAND_ROWS, MAX_BAND_PAIRS / (shape.w * shape.w)));
    }
    if (pass->chains < MIN_ITEMS)
        rows = min_int(rows, max_int(MIN_BAND_ROWS, divide_up((int64_t)length * pass->chains, MIN_ITEMS)));
    return rows;
}

static void plan_windows(const struct els_evaluation *e, struct els_sweep *s, int p)
{
    int r = p / 2;

    /* A window that passes the image on both sides is the whole image: no radius needs to be larger. */
    s->rh = min_int(r, s->shape.h - 1);
    s->rw = min_int(r, s->shape.w - 1);
    s->wraps = els_machine_wraps(e->machine);
}

static void plan_translates(const struct els_evaluation *e, struct els_sweep *s)
{
    s->wraps = els_machine_wraps(e->machine);
    s->rh = 0;
    s->rw = s->wraps ? s->shape.w / 2 : 0;
}

/* ln(2M/ε), see kernel.h: every candidate skipped weighs less than e^(m − cut), and one weighs e^m. */
static double cut_for(const struct els_evaluation *e, double candidates_per_image)
{
    double allowed = fmax(e->tolerance, 0x1p-26); /* half a unit in float32's last place at 1 */

    return log(2.0 * candidates_per_image * (double)e->num_images / allowed);
}

static int plan_sweep(struct els_pass *pass, struct els_sweep *s, int p, int band, int rows, int entropy)
{
    const struct els_evaluation *e = pass->e;
    struct els_shape shape = els_bank_info(e->bank)->shape;
    int translates = !els_machine_uses_p(e->machine);
    int length = translates && e->machine == ELS_MACHINE_IS ? 1 : shape.h;
    int r = 0;

    *s = (struct els_sweep){
        .bank = e->bank,
        .shape = shape,
        .machine = e->machine,
        .band_from = band * rows,
        .band_to = min_int(length, (band + 1) * rows),
        .scale = sqrt(e->alpha_bar) / e->beta,
        .bias = e->alpha_bar / (2.0 * e->beta),
        .cut = cut_for(e, (double)shape.h * shape.w),
        .slots = 1 + shape.c + (entropy ? 1 : 0),
        .entropy = entropy,
    };
    if (translates) {
        plan_translates(e, s);
        return 0;
    }
    plan_windows(e, s, p);
    r = p / 2;
    if (els_runs_new(&s->rows, e->machine, e->candidates, shape.h, r, s->band_from, s->band_to) < 0)
        return ELS_ENOMEM;
    return els_runs_new(&s->cols, e->machine, e->candidates, shape.w, r, 0, shape.w);
}

/* The most sources that a query of one axis can take. */
static int most_sources(const struct els_evaluation *e, int n, int r)
{
    int most = 0;

    for (int i = 0; i < n; i++) {
        int from, to;

        els_sources_of(e->machine, e->candidates, n, r, i, &from, &to);
        most = max_int(most, to - from);
    }
    return most;
}

static int64_t most_candidates(const struct els_evaluation *e)
{
    struct els_shape shape = els_bank_info(e->bank)->shape;
    int64_t most = 1;

    if (e->machine == ELS_MACHINE_ES)
        return (int64_t)shape.h * shape.w;
    for (int k = 0; e->machine != ELS_MACHINE_IS && k < e->num_p; k++) {
        int64_t n = (int64_t)most_sources(e, shape.h, e->p[k] / 2) * most_sources(e, shape.w, e->p[k] / 2);

        most = n > most ? n : most;
    }
    return most;
}

static int64_t pairs_that_fit(const struct els_pass *pass)
{
    struct els_shape shape = els_bank_info(pass->e->bank)->shape;
    size_t image = els_posterior_bytes((size_t)shape.h * (size_t)shape.w, shape.c);
    size_t lanes = lane_floats(pass, &pass->sweep[0]) * sizeof(float);
    int64_t by_parts = (int64_t)(ELS_PARTS_BYTES / (image * (size_t)pass->chains));
    int64_t by_lanes = (int64_t)(ELS_WORKER_BYTES / lanes);
    int64_t fit = by_parts < by_lanes ? by_parts : by_lanes;

    return fit > 0 ? fit : 1;
}

static int plan(struct els_pass *pass, int entropy)
{
    const struct els_evaluation *e = pass->e;
    struct els_shape shape = els_bank_info(e->bank)->shape;
    size_t image = els_posterior_bytes((size_t)shape.h * (size_t)shape.w, shape.c);
    int length = e->machine == ELS_MACHINE_IS ? 1 : shape.h;
    int rows;

    pass->groups = divide_up(e->num_images, pass->kernel->lanes);
    pass->chains = max_int(1, min_int(MAX_CHAINS, (int)(ELS_PARTS_BYTES / 4 / image)));
    if (pass->groups < pass->chains)
        pass->chains = (int)pass->groups;
    /* As if the entropy were wanted: asking for it must not change x̂0. */
    rows = band_rows(pass, 2 + shape.c, length);
    pass->bands = divide_up(length, rows);
    pass->sweep = els_alloc_array((size_t)e->num_p * (size_t)pass->bands, sizeof(*pass->sweep));
    if (!pass->sweep)
        return ELS_ENOMEM;
    for (int k = 0; k < e->num_p; k++)
        for (int b = 0; b < pass->bands; b++) {
            int r = plan_sweep(pass, &pass->sweep[k * pass->bands + b], e->p[k], b, rows, entropy);

            if (r < 0)
                return r;
        }
    pass->max_adds = most_candidates(e);
    pass->pairs_at_once = pairs_that_fit(pass);
    return 0;
}

static int kernel_accepts_all(const struct els_pass *pass)
{
    for (int i = 0; i < pass->e->num_p * pass->bands; i++)
        if (!pass->kernel->accepts(&pass->sweep[i]))
            return 0;
    return 1;
}

static void forget_plan(struct els_pass *pass)
{
    for (int i = 0; pass->sweep && i < pass->e->num_p * pass->bands; i++) {
        els_runs_deinit(&pass->sweep[i].rows);
        els_runs_deinit(&pass->sweep[i].cols);
    }
    free(pass->sweep);
    pass->sweep = NULL;
}

int els_pass_new(struct els_pass **out, const struct els_evaluation *e, int entropy)
{
    struct els_pass *pass = els_alloc_array(1, sizeof(*pass));
    int r;

    if (!pass)
        return ELS_ENOMEM;
    pass->e = e;
    pass->kernel = els_kernel_chosen();
    r = plan(pass, entropy);
    if (r == 0 && !kernel_accepts_all(pass)) {
        forget_plan(pass);
        pass->kernel = &els_kernel_c;
        r = plan(pass, entropy);
    }
    if (r < 0) {
        els_pass_free(pass);
        return r;
    }
    *out = pass;
    return 0;
}

struct els_pass *els_pass_free(struct els_pass *pass)
{
    if (!pass)
        return NULL;
    forget_plan(pass);
    free(pass);
    return NULL;
}

int64_t els_pass_pairs_at_once(const struct els_pass *pass)
{
    return pass->pairs_at_once;
}

/* ---- walking a chain ---- */

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* True when the work is to stop. Asks the watch at most every POLL_NS per worker. */
static int look_in(struct els_pass *pass, struct worker *w)
{
    int64_t now;
    double total = (double)pass->groups * pass->bands * (double)pass->count;
    double all_pairs = (double)pass->e->num_p * (double)pass->e->batch, done;

    if (atomic_load_explicit(&pass->stop, memory_order_relaxed))
        return 1;
    if (!pass->watch)
        return 0;
    now = now_ns();
    if (now - w->polled_ns < POLL_NS)
        return 0;
    w->polled_ns = now;
    done = (double)atomic_load_explicit(&pass->done, memory_order_relaxed) / total;
    done = ((double)pass->first + done * (double)pass->count) / all_pairs;
    if (pass->watch->poll(pass->watch->user, done) == 0)
        return 0;
    atomic_store_explicit(&pass->stop, 1, memory_order_relaxed);
    return 1;
}

static void reset_lanes(const struct els_pass *pass, const struct els_sweep *s, struct els_lanes *lanes)
{
    size_t pixels = part_pixels(s);

    memset(lanes->sum, 0, lane_floats(pass, s) * sizeof(float));
    for (size_t q = 0; q < pixels; q++)
        lanes->m[q] = -INFINITY;
}

static double sum_lanes(const float *v, int lanes)
{
    double sum = 0;

    for (int l = 0; l < lanes; l++)
        sum += (double)v[l];
    return sum;
}

/* Moves the float32 lane sums of every pixel into the float64 posterior; the references stay. */
static void flush(const struct els_pass *pass, const struct els_sweep *s, struct els_lanes *lanes,
                  struct els_posterior *part)
{
    int n = pass->kernel->lanes, translates = !els_machine_uses_p(s->machine);
    double unit = els_bank_info(s->bank)->dtype == ELS_U8 ? 1.0 / 127.5 : 1.0;
    double v[ELS_MAX_CHANNELS];
    size_t pixels = part_pixels(s);

    for (size_t q = 0; q < pixels; q++) {
        const float *sum = lanes->sum + q * (size_t)(s->slots * n);
        /* is and es weigh whole images: s and u stand at pixel 0 only. */
        const float *shared = translates ? lanes->sum : sum;

        for (int c = 0; c < s->shape.c; c++)
            v[c] = unit * sum_lanes(sum + (1 + c) * n, n);
        els_posterior_add(part, q, lanes->m[translates ? 0 : q], sum_lanes(shared, n),
                          s->entropy ? sum_lanes(shared + (s->slots - 1) * n, n) : 0, v);
    }
    memset(lanes->sum, 0, lane_floats(pass, s) * sizeof(float));
}

/* One group of images against one pair. Leaves early, with half a group added, only when told to stop. */
static void sweep_group(struct els_pass *pass, const struct els_sweep *s, struct worker *w,
                        const void *query, struct els_lanes *lanes)
{
    const struct els_kernel *kernel = pass->kernel;

    if (!els_machine_uses_p(s->machine)) {
        for (int dy = s->band_from; dy < s->band_to && !look_in(pass, w); dy++)
            kernel->sweep_translates(s, dy, query, w->group, w->work, lanes);
        return;
    }
    for (int r = 0; r < s->rows.count && !look_in(pass, w); r++)
        kernel->sweep_windows(s, &s->rows.run[r], query, w->group, w->work, lanes);
}

/* One item: chain × band, all pairs. */
static void walk(void *arg, size_t item, int worker)
{
    struct els_pass *pass = arg;
    struct worker *w = &pass->worker[worker];
    int lanes = pass->kernel->lanes, chain = (int)item / pass->bands, band = (int)item % pass->bands;
    int64_t from = pass->groups * chain / pass->chains, to = pass->groups * (chain + 1) / pass->chains;
    int64_t per_flush = FLUSH_ADDS / pass->max_adds + 1;
    struct els_posterior *part = pass->part + item * (size_t)pass->count;

    for (int64_t i = 0; i < pass->count; i++) {
        int64_t k = (pass->first + i) / pass->e->batch;

        reset_lanes(pass, &pass->sweep[k * pass->bands + band], &w->lanes[i]);
    }
    for (int64_t g = from; g < to; g++) {
        int64_t left = pass->e->num_images - g * lanes, prepared = -1;

        for (int64_t i = 0; i < pass->count; i++) {
            int64_t k = (pass->first + i) / pass->e->batch;
            const struct els_sweep *s = &pass->sweep[k * pass->bands + band];

            if (k != prepared)
                pass->kernel->prepare_group(s, pass->e->images + g * lanes,
                                            left < lanes ? (int)left : lanes, w->group);
            prepared = k;
            sweep_group(pass, s, w, pass->query[i], &w->lanes[i]);
            if (atomic_load_explicit(&pass->stop, memory_order_relaxed))
                return;
            if ((g + 1 - from) % per_flush == 0 || g + 1 == to)
                flush(pass, s, &w->lanes[i], &part[i]);
            atomic_fetch_add_explicit(&pass->done, 1, memory_order_relaxed);
        }
    }
}

/* ---- one run ---- */

static void free_worker(struct worker *w, int64_t count)
{
    for (int64_t i = 0; w->lanes && i < count; i++) {
        free(w->lanes[i].m);
        free(w->lanes[i].sum);
    }
    free(w->lanes);
    free(w->group);
    free(w->work);
}

/* Buffers for the largest sweep of the run: P sets the padding. */
static int new_worker(const struct els_pass *pass, struct worker *w)
{
    size_t group = 1, work = 1;

    for (int k = 0; k < pass->e->num_p; k++) {
        const struct els_sweep *s = &pass->sweep[k * pass->bands];
        size_t g = pass->kernel->group_bytes(s), o = pass->kernel->work_bytes(s);

        group = g > group ? g : group;
        work = o > work ? o : work;
    }
    w->group = els_alloc_aligned(group, 1);
    w->work = els_alloc_aligned(work, 1);
    w->lanes = els_alloc_array((size_t)pass->count, sizeof(*w->lanes));
    if (!w->group || !w->work || !w->lanes)
        return ELS_ENOMEM;
    for (int64_t i = 0; i < pass->count; i++) {
        /* Band 0 is the tallest. */
        const struct els_sweep *s = &pass->sweep[(pass->first + i) / pass->e->batch * pass->bands];

        w->lanes[i].m = els_alloc_array(part_pixels(s), sizeof(double));
        w->lanes[i].sum = els_alloc_aligned(lane_floats(pass, s), sizeof(float));
        if (!w->lanes[i].m || !w->lanes[i].sum)
            return ELS_ENOMEM;
    }
    return 0;
}

static int prepare_queries(struct els_pass *pass)
{
    size_t values = els_shape_values(els_bank_info(pass->e->bank)->shape);

    pass->query = els_alloc_array((size_t)pass->count, sizeof(*pass->query));
    if (!pass->query)
        return ELS_ENOMEM;
    for (int64_t i = 0; i < pass->count; i++) {
        int64_t pair = pass->first + i;
        const struct els_sweep *s = &pass->sweep[pair / pass->e->batch * pass->bands];

        pass->query[i] = els_alloc_aligned(pass->kernel->query_bytes(s), 1);
        if (!pass->query[i])
            return ELS_ENOMEM;
        pass->kernel->prepare_query(s, pass->e->x + (size_t)(pair % pass->e->batch) * values,
                                    pass->query[i]);
    }
    return 0;
}

static int prepare_parts(struct els_pass *pass)
{
    size_t items = (size_t)pass->chains * (size_t)pass->bands;

    pass->part = els_alloc_array(items * (size_t)pass->count, sizeof(*pass->part));
    if (!pass->part)
        return ELS_ENOMEM;
    for (size_t item = 0; item < items; item++)
        for (int64_t i = 0; i < pass->count; i++) {
            int64_t k = (pass->first + i) / pass->e->batch;
            const struct els_sweep *s = &pass->sweep[k * pass->bands + (int64_t)item % pass->bands];
            struct els_posterior *p = &pass->part[item * (size_t)pass->count + (size_t)i];

            if (els_posterior_init(p, part_pixels(s), s->shape.c) < 0)
                return ELS_ENOMEM;
        }
    return 0;
}

/* In the order of the chains, so that the sums are the same for any number of threads. */
static void merge_parts(const struct els_pass *pass, struct els_posterior *out)
{
    for (size_t item = 0; item < (size_t)pass->chains * (size_t)pass->bands; item++)
        for (int64_t i = 0; i < pass->count; i++) {
            int64_t k = (pass->first + i) / pass->e->batch;
            const struct els_sweep *s = &pass->sweep[k * pass->bands + (int64_t)item % pass->bands];
            size_t offset = els_machine_uses_p(s->machine) ? (size_t)s->band_from * (size_t)s->shape.w : 0;
            struct els_posterior band = {
                .pixels = part_pixels(s),
                .channels = s->shape.c,
                .m = out[i].m + offset,
                .s = out[i].s + offset,
                .u = out[i].u + offset,
                .v = out[i].v + offset * (size_t)s->shape.c,
            };

            els_posterior_merge(&band, &pass->part[item * (size_t)pass->count + (size_t)i]);
        }
}

static void end_run(struct els_pass *pass, int threads)
{
    size_t parts = (size_t)pass->chains * (size_t)pass->bands * (size_t)pass->count;

    for (int t = 0; pass->worker && t < threads; t++)
        free_worker(&pass->worker[t], pass->count);
    for (int64_t i = 0; pass->query && i < pass->count; i++)
        free(pass->query[i]);
    for (size_t i = 0; pass->part && i < parts; i++)
        els_posterior_deinit(&pass->part[i]);
    free(pass->worker);
    free(pass->query);
    free(pass->part);
    pass->worker = NULL;
    pass->query = NULL;
    pass->part = NULL;
}

int els_pass_run(struct els_pass *pass, int64_t first, int64_t count, struct els_pool *pool,
                 const struct els_watch *watch, struct els_posterior *out)
{
    int threads = els_pool_threads(pool), r;

    pass->first = first;
    pass->count = count;
    pass->watch = watch;
    atomic_store(&pass->stop, 0);
    atomic_store(&pass->done, 0);
    pass->worker = els_alloc_array((size_t)threads, sizeof(*pass->worker));
    r = pass->worker ? prepare_queries(pass) : ELS_ENOMEM;
    if (r == 0)
        r = prepare_parts(pass);
    for (int t = 0; r == 0 && t < threads; t++)
        r = new_worker(pass, &pass->worker[t]);
    if (r == 0) {
        els_pool_run(pool, (size_t)pass->chains * (size_t)pass->bands, walk, pass);
        if (atomic_load(&pass->stop))
            r = ELS_ECANCELLED;
        else
            merge_parts(pass, out);
    }
    end_run(pass, threads);
    return r;
}
