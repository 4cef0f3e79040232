/*
 * The pass over the bank; see pass.h for the partition. els_pass_run is called by one thread; its
 * items run on the pool's threads. Each worker owns its buffers and each item its posteriors, so
 * nothing is locked; the only shared words are the stop flag and the count of work done.
 */
#include "core/engine/pass_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "els/effort.h"
#include "els/mem.h"

enum {
    FLUSH_ADDS = 2048, /* float32 additions per lane before a flush to float64 */
    POLL_NS = 20 * 1000 * 1000,
};

/* ---- walking a chain ---- */

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Of pairs 0 … n−1, as a share of all. Larger scales have fewer candidates. */
static double work_of(const struct els_pass *pass, int64_t n)
{
    const struct els_evaluation *e = pass->e;
    double before = 0, all = 0;

    for (int k = 0; k < e->num_p; k++) {
        double work = els_effort_pairs(e->machine, e->candidates, els_bank_info(e->bank)->shape, e->p[k]);
        double pairs = fmin(fmax(0, (double)(n - k * e->batch)), (double)e->batch);

        before += work * pairs;
        all += work * (double)e->batch;
    }
    return before / all;
}

/* True when the work is to stop. Calls the progress callback at most every POLL_NS per worker. */
static int look_in(struct els_pass *pass, struct worker *w)
{
    int64_t now;
    double total = (double)pass->groups * pass->bands * (double)pass->count, done;

    if (atomic_load_explicit(&pass->stop, memory_order_relaxed))
        return 1;
    if (!pass->progress)
        return 0;
    now = now_ns();
    if (now - w->polled_ns < POLL_NS)
        return 0;
    w->polled_ns = now;
    done = (double)atomic_load_explicit(&pass->done, memory_order_relaxed) / total;
    done = pass->before + done * pass->share;
    if (pass->progress->poll(pass->progress->user, done) == 0)
        return 0;
    atomic_store_explicit(&pass->stop, 1, memory_order_relaxed);
    return 1;
}

static void reset_lanes(const struct els_pass *pass, const struct els_sweep *s,
                        struct els_lanes *lanes)
{
    size_t pixels = els_pass_part_pixels(s);

    memset(lanes->sum, 0, els_pass_lane_floats(pass, s) * sizeof(float));
    for (size_t q = 0; q < pixels; q++) {
        lanes->m[q] = -INFINITY;
        lanes->floor[q] = ELS_NO_FLOOR;
        lanes->log_total[q] = -INFINITY;
    }
}

/* Lanes beyond `lanes` were empty: whatever they hold does not count. */
static double sum_lanes(const float *v, int lanes)
{
    double sum = 0;

    for (int l = 0; l < lanes; l++)
        sum += (double)v[l];
    return sum;
}

/*
 * Moves the sums of the first `full` lanes of every pixel into the float64 posterior; the
 * references stay.
 */
static void flush(const struct els_pass *pass, const struct els_sweep *s, struct els_lanes *lanes,
                  int full, struct els_posterior *part)
{
    int n = pass->lanes, translates = !els_machine_uses_p(s->machine);
    double unit = els_bank_info(s->bank)->dtype == ELS_U8 ? 1.0 / 127.5 : 1.0;
    double v[ELS_MAX_CHANNELS];
    size_t pixels = els_pass_part_pixels(s);

    for (size_t q = 0; q < pixels; q++) {
        const float *sum = lanes->sum + q * (size_t)(s->slots * n);
        /* is and es weigh whole images: s and u stand at pixel 0 only. */
        const float *shared = translates ? lanes->sum : sum;

        for (int c = 0; c < s->shape.c; c++)
            v[c] = unit * sum_lanes(sum + (1 + c) * n, full);
        els_posterior_add(part, q, lanes->m[translates ? 0 : q], sum_lanes(shared, full),
                          s->entropy ? sum_lanes(shared + (s->slots - 1) * n, full) : 0, v);
        lanes->log_total[q] = part->m[q] + log(part->s[q]);
    }
    memset(lanes->sum, 0, els_pass_lane_floats(pass, s) * sizeof(float));
}

/*
 * One group of images against one pair. Leaves early, with half a group added, only when told to
 * stop.
 */
static void sweep_group(struct els_pass *pass, const struct els_kernel *kernel,
                        const struct els_sweep *s, struct worker *w, const void *query,
                        struct els_lanes *lanes)
{
    if (kernel->begin)
        kernel->begin(s, query, w->group, w->work, lanes);
    for (int i = 0; i < kernel->steps(s) && !look_in(pass, w); i++)
        kernel->sweep(s, i, query, w->group, w->work, lanes);
}

/* One item: chain × band, all pairs. */
static void walk(void *arg, size_t item, int worker)
{
    struct els_pass *pass = arg;
    struct worker *w = &pass->worker[worker];
    int lanes = pass->lanes, chain = (int)item / pass->bands,
        band = (int)item % pass->bands;
    int64_t from = pass->groups * chain / pass->chains,
            to = pass->groups * (chain + 1) / pass->chains;
    int64_t per_flush = FLUSH_ADDS / pass->max_adds + 1;
    struct els_posterior *part = pass->part + item * (size_t)pass->count;

    for (int64_t i = 0; i < pass->count; i++) {
        int64_t k = (pass->first + i) / pass->e->batch;

        reset_lanes(pass, &pass->sweep[k * pass->bands + band], &w->lanes[i]);
    }
    for (int64_t g = from; g < to; g++) {
        int64_t left = pass->e->num_images - g * lanes, prepared = -1;
        const struct els_kernel *by = NULL;
        int full = left < lanes ? (int)left : lanes;
        /* A group with empty lanes comes last, and is flushed by itself. */
        int last = g + 1 == to || left < 2 * lanes || (g + 1 - from) % per_flush == 0;

        for (int64_t i = 0; i < pass->count; i++) {
            int64_t k = (pass->first + i) / pass->e->batch;
            const struct els_sweep *s = &pass->sweep[k * pass->bands + band];

            const struct els_kernel *kernel = pass->kernel[pass->first + i];

            if (k != prepared || kernel != by)
                kernel->prepare_group(s, pass->e->images + g * lanes, full, w->group);
            prepared = k;
            by = kernel;
            sweep_group(pass, kernel, s, w, pass->query[i], &w->lanes[i]);
            if (atomic_load_explicit(&pass->stop, memory_order_relaxed))
                return;
            if (last && kernel->finish)
                kernel->finish(s, pass->query[i], w->work, &w->lanes[i]);
            if (last)
                flush(pass, s, &w->lanes[i], kernel->mixes_images ? lanes : full, &part[i]);
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
        free(w->lanes[i].floor);
        free(w->lanes[i].log_total);
    }
    free(w->lanes);
    free(w->group);
    free(w->work);
}

/* The largest group and work area of pairs first … first + count − 1. */
static void largest_buffers(const struct els_pass *pass, int64_t first, int64_t count,
                            size_t *group, size_t *work)
{
    *group = *work = 1;
    for (int64_t i = first; i < first + count; i++) {
        const struct els_sweep *s = &pass->sweep[i / pass->e->batch * pass->bands];
        size_t g = pass->kernel[i]->group_bytes(s), o = pass->kernel[i]->work_bytes(s);

        *group = g > *group ? g : *group;
        *work = o > *work ? o : *work;
    }
}

size_t els_pass_worker_bytes(const struct els_pass *pass, int64_t count)
{
    size_t group, work, lanes = 0;

    largest_buffers(pass, 0, count, &group, &work);
    for (int64_t i = 0; i < count; i++) {
        const struct els_sweep *s = &pass->sweep[i / pass->e->batch * pass->bands];

        lanes += els_pass_lane_floats(pass, s) * sizeof(float) +
                 els_pass_part_pixels(s) * (2 * sizeof(double) + sizeof(int64_t));
    }
    return group + work + lanes;
}

size_t els_pass_bytes(const struct els_pass *pass, int64_t pairs, int threads)
{
    struct els_shape shape = els_bank_info(pass->e->bank)->shape;
    size_t group, work, query = 0, lanes = 0, parts = 0,
           count = (size_t)(pairs < pass->pairs_at_once ? pairs : pass->pairs_at_once),
           image = els_posterior_bytes((size_t)shape.h * (size_t)shape.w, shape.c);

    largest_buffers(pass, 0, pass->e->num_p * pass->e->batch, &group, &work);
    for (int64_t i = 0; i < pass->e->num_p * pass->e->batch; i++) {
        const struct els_sweep *s = &pass->sweep[i / pass->e->batch * pass->bands];
        size_t l = els_pass_lane_floats(pass, s) * sizeof(float) +
                   els_pass_part_pixels(s) * (2 * sizeof(double) + sizeof(int64_t)),
               q = pass->kernel[i]->query_bytes(s);

        lanes = l > lanes ? l : lanes;
        query = q > query ? q : query;
    }
    for (int b = 0; b < pass->bands; b++)
        parts += els_posterior_bytes(els_pass_part_pixels(&pass->sweep[b]), shape.c);
    return (size_t)threads * (group + work + count * lanes) +
           count * (query + image + (size_t)pass->chains * parts);
}

static int new_worker(const struct els_pass *pass, struct worker *w)
{
    size_t group, work;

    largest_buffers(pass, pass->first, pass->count, &group, &work);
    w->group = els_alloc_aligned(group, 1);
    w->work = els_alloc_aligned(work, 1);
    w->lanes = els_alloc_array((size_t)pass->count, sizeof(*w->lanes));
    if (!w->group || !w->work || !w->lanes)
        return ELS_ENOMEM;
    for (int64_t i = 0; i < pass->count; i++) {
        /* Band 0 is the tallest. */
        const struct els_sweep *s = &pass->sweep[(pass->first + i) / pass->e->batch * pass->bands];

        w->lanes[i].m = els_alloc_array(els_pass_part_pixels(s), sizeof(double));
        w->lanes[i].sum = els_alloc_aligned(els_pass_lane_floats(pass, s), sizeof(float));
        w->lanes[i].floor = els_alloc_array(els_pass_part_pixels(s), sizeof(int64_t));
        w->lanes[i].log_total = els_alloc_array(els_pass_part_pixels(s), sizeof(double));
        if (!w->lanes[i].m || !w->lanes[i].sum || !w->lanes[i].floor || !w->lanes[i].log_total)
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

        pass->query[i] = els_alloc_aligned(pass->kernel[pair]->query_bytes(s), 1);
        if (!pass->query[i])
            return ELS_ENOMEM;
        pass->kernel[pair]->prepare_query(s, pass->e->x + (size_t)(pair % pass->e->batch) * values,
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

            if (els_posterior_init(p, els_pass_part_pixels(s), s->shape.c) < 0)
                return ELS_ENOMEM;
        }
    return 0;
}

static void merge_part(const struct els_pass *pass, size_t item, int64_t i, struct els_posterior *out)
{
    int64_t k = (pass->first + i) / pass->e->batch;
    const struct els_sweep *s = &pass->sweep[k * pass->bands + (int64_t)item % pass->bands];
    size_t offset = els_machine_uses_p(s->machine) ? (size_t)s->band_from * (size_t)s->shape.w : 0;
    struct els_posterior band = {
        .pixels = els_pass_part_pixels(s),
        .channels = s->shape.c,
        .m = out[i].m + offset,
        .s = out[i].s + offset,
        .u = out[i].u + offset,
        .v = out[i].v + offset * (size_t)s->shape.c,
    };

    els_posterior_merge(&band, &pass->part[item * (size_t)pass->count + (size_t)i]);
}

/* In the order of the chains, so that the sums are the same for any number of threads. */
static int merge_parts(struct els_pass *pass, struct els_posterior *out)
{
    for (size_t item = 0; item < (size_t)pass->chains * (size_t)pass->bands; item++)
        for (int64_t i = 0; i < pass->count; i++) {
            if (look_in(pass, &pass->worker[0]))
                return ELS_ECANCELLED;
            merge_part(pass, item, i, out);
        }
    return 0;
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
                 const struct els_progress *progress, struct els_posterior *out)
{
    int threads = els_pool_threads(pool), r;

    pass->first = first;
    pass->count = count;
    pass->progress = progress;
    pass->before = work_of(pass, first);
    pass->share = work_of(pass, first + count) - pass->before;
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
            r = merge_parts(pass, out);
    }
    end_run(pass, threads);
    return r;
}
