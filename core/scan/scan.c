/*
 * A scan of the selected images for the nearest candidates of every pixel (see scan.h).
 * els_scan_run is called by one thread. The work is a row of strips, displacements of rows for
 * groups of eight images; it is cut into the same parts whatever the number of threads. Workers
 * take one part after the other. Each has its own list of the nearest; each part has its own sums.
 * Workers share nothing that changes but the next part and the wish to stop.
 */
#include "core/scan/scan.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/scan/scan_internal.h"
#include "els/mem.h"

enum {
    WORK_BYTES = 256 << 20, /* of all workers' buffers; one worker is always there */
    POLL_NS = 20 * 1000 * 1000,
    LANES = ELS_SCAN_LANES,
};

struct run {
    struct els_scan_plan plan;
    struct els_scan_sums *sums; /* [parts] */
    struct els_scan_work *work; /* [workers] */
    int workers;
    const struct els_progress *progress;
    atomic_int next;   /* the first part that nobody took; relaxed: a counter */
    atomic_int stop;   /* relaxed: only makes workers leave early */
    atomic_llong done; /* strips finished; relaxed: progress only */
};

/* What `stop` of a walk gets. */
struct looking {
    struct run *run;
    struct els_scan_work *work;
};

static int look_in(void *user)
{
    const struct looking *at = user;
    struct run *run = at->run;
    struct timespec t;
    int64_t now;
    double done;

    if (atomic_load_explicit(&run->stop, memory_order_relaxed))
        return 1;
    if (!run->progress)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (now - at->work->polled_ns < POLL_NS)
        return 0;
    at->work->polled_ns = now;
    done = (double)atomic_load_explicit(&run->done, memory_order_relaxed) /
           ((double)run->plan.groups * run->plan.strips);
    if (run->progress->poll(run->progress->user, done) == 0)
        return 0;
    atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
    return 1;
}

static void walk_part(struct run *run, struct els_scan_work *work, int part)
{
    const struct els_scan_plan *plan = &run->plan;
    int64_t strips = plan->groups * plan->strips, from = strips * part / plan->parts,
            to = strips * (part + 1) / plan->parts;
    struct looking at = {run, work};

    els_scan_clear(plan, work);
    for (int64_t i = from; i < to && !look_in(&at); i++) {
        int strip = (int)(i % plan->strips);

        if (i / plan->strips != work->group)
            els_scan_load(plan, work, i / plan->strips);
        if (strip == 0)
            els_scan_take_blanks(plan, work);
        if (els_machine_uses_p(plan->q->machine))
            els_scan_windows(plan, work, strip, look_in, &at);
        else
            els_scan_whole(plan, work, strip, look_in, &at);
        atomic_fetch_add_explicit(&run->done, 1, memory_order_relaxed);
    }
    els_scan_fold(plan, work, &run->sums[part]);
}

static void walk(void *arg, size_t index, int worker)
{
    struct run *run = arg;

    for (;;) {
        int part = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);

        if (part >= run->plan.parts)
            return;
        walk_part(run, &run->work[index], part);
    }
}

/* ---- buffers ---- */

/* Lays a worker's float64 buffers out in `block`; those with lanes first, where they stay aligned.
 * Returns how * many values they are. */
static size_t lay_out(const struct els_scan_plan *plan, struct els_scan_work *work, double *block)
{
    size_t n = plan->pixels, width = (size_t)plan->pw, side = 2 * (size_t)plan->rh + 1, total = 0;
    const struct {
        double **buffer;
        size_t count;
    } part[] = {
        {&work->y, (size_t)plan->shape.c * (size_t)plan->ph * width * LANES},
        {&work->apart, n * LANES},
        {&work->s, n * LANES},
        {&work->u, n * LANES},
        {&work->square, side * width * LANES},
        {&work->column, width * LANES},
        {&work->distance, width * LANES},
        {&work->limit, n},
        {&work->least, n},
        {&work->near, n},
        {&work->blank_count, n},
    };

    for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
        *part[i].buffer = block ? block + total : NULL;
        total += part[i].count;
    }
    return total;
}

static size_t work_bytes(const struct els_scan_plan *plan)
{
    struct els_scan_work work;

    return lay_out(plan, &work, NULL) * sizeof(double) +
           plan->pixels * (size_t)plan->q->top * sizeof(*work.found);
}

size_t els_scan_bytes(const struct els_scan_question *q, int threads)
{
    struct els_scan_plan plan;
    size_t sums, work, workers;

    els_scan_plan_sizes(&plan, q);
    work = work_bytes(&plan);
    workers = WORK_BYTES / work < (size_t)threads ? WORK_BYTES / work : (size_t)threads;
    sums = ELS_SCAN_PARTS * plan.pixels * 3 * sizeof(double);
    return (workers > 0 ? workers : 1) * work + (sums < ELS_SCAN_SUMS_BYTES ? sums : ELS_SCAN_SUMS_BYTES);
}

static int new_work(const struct els_scan_plan *plan, struct els_scan_work *work)
{
    size_t entries = plan->pixels * (size_t)plan->q->top, h = (size_t)plan->shape.h,
           w = (size_t)plan->shape.w;
    double *block = els_alloc_aligned(lay_out(plan, work, NULL), sizeof(*block));

    work->group = -1;
    lay_out(plan, work, block);
    work->found = els_alloc_array(entries, sizeof(*work->found));
    work->black = els_alloc_array((size_t)plan->ph * (size_t)plan->pw, 1);
    work->lit = els_alloc_array((size_t)plan->pw, sizeof(*work->lit));
    work->blanks = els_alloc_array((h + 1) * (w + 1), LANES * sizeof(*work->blanks));
    if (!block || !work->found || !work->black || !work->lit || !work->blanks)
        return ELS_ENOMEM;
    for (size_t i = 0; i < entries; i++)
        work->found[i] = (struct els_found){.distance = INFINITY, .image = -1};
    for (size_t i = 0; i < plan->pixels; i++)
        work->limit[i] = INFINITY;
    return 0;
}

static void free_work(struct els_scan_work *work)
{
    free(work->y); /* the block's first */
    free(work->found);
    free(work->black);
    free(work->lit);
    free(work->blanks);
}

static int new_sums(const struct els_scan_plan *plan, struct els_scan_sums *sums)
{
    sums->least = els_alloc_array(plan->pixels, 3 * sizeof(*sums->least));
    if (!sums->least)
        return ELS_ENOMEM;
    sums->s = sums->least + plan->pixels;
    sums->u = sums->s + plan->pixels;
    return 0;
}

static int start(struct run *run, int threads)
{
    int64_t most = WORK_BYTES / (int64_t)work_bytes(&run->plan);
    int status = 0;

    run->workers = threads < run->plan.parts ? threads : run->plan.parts;
    if (run->workers > most)
        run->workers = most < 1 ? 1 : (int)most;
    run->sums = els_alloc_array((size_t)run->plan.parts, sizeof(*run->sums));
    run->work = els_alloc_array((size_t)run->workers, sizeof(*run->work));
    if (!run->sums || !run->work)
        return ELS_ENOMEM;
    for (int i = 0; i < run->plan.parts && status == 0; i++)
        status = new_sums(&run->plan, &run->sums[i]);
    for (int i = 0; i < run->workers && status == 0; i++)
        status = new_work(&run->plan, &run->work[i]);
    return status;
}

static void finish(struct run *run)
{
    for (int i = 0; run->sums && i < run->plan.parts; i++)
        free(run->sums[i].least);
    for (int i = 0; run->work && i < run->workers; i++)
        free_work(&run->work[i]);
    free(run->sums);
    free(run->work);
    els_scan_plan_deinit(&run->plan);
}

/* ---- the face ---- */

static void merge(struct els_scan *out, struct run *run)
{
    struct els_scan_work *lists = &run->work[0];
    struct els_scan_sums *sums = &run->sums[0];

    for (int i = 1; i < run->workers; i++)
        els_scan_merge_lists(&run->plan, lists, &run->work[i]);
    for (int i = 1; i < run->plan.parts; i++)
        els_scan_merge_sums(&run->plan, sums, &run->sums[i]);
    *out = (struct els_scan){
        .pixels = run->plan.pixels,
        .top = run->plan.q->top,
        .found = lists->found,
        .least = sums->least,
        .s = sums->s,
        .u = sums->u,
    };
    lists->found = NULL;
    sums->least = NULL;
}

int els_scan_run(struct els_scan *out, const struct els_scan_question *q, struct els_pool *pool,
                 const struct els_progress *progress)
{
    struct run run = {.progress = progress};
    int status = els_scan_plan_init(&run.plan, q, progress);

    if (status == 0)
        status = start(&run, els_pool_threads(pool));
    if (status == 0) {
        els_pool_run(pool, (size_t)run.workers, walk, &run);
        if (atomic_load(&run.stop))
            status = ELS_ECANCELLED;
    }
    if (status == 0)
        merge(out, &run);
    finish(&run);
    return status;
}

void els_scan_deinit(struct els_scan *scan)
{
    free(scan->found);
    free(scan->least);
    *scan = (struct els_scan){0};
}
