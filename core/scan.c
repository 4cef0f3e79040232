/*
 * A scan of the selected images for the nearest candidates of every pixel (see scan.h). els_scan_run is called by
 * one thread; the images are cut into the same parts whatever the number of threads, each part is walked by one
 * worker of the pool, and the parts are merged in order. Workers share nothing that changes but the wish to stop.
 */
#include "scan.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mem.h"
#include "scan_internal.h"

enum {
    MAX_PARTS = 64,
    PARTS_BYTES =
        256 << 20, /* of lists and sums that wait to be merged; one part is always taken */
    POLL_NS = 20 * 1000 * 1000,
};

struct run {
    struct els_scan_plan plan;
    int parts, threads;
    struct els_scan_part *part; /* [parts] */
    struct els_scan_work *work; /* [threads] */
    const struct els_watch *watch;
    atomic_int stop;   /* relaxed: only makes workers leave early */
    atomic_llong done; /* images finished; relaxed: progress only */
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
    if (!run->watch)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (now - at->work->polled_ns < POLL_NS)
        return 0;
    at->work->polled_ns = now;
    done = (double)atomic_load_explicit(&run->done, memory_order_relaxed) /
           (double)run->plan.q->num_images;
    if (run->watch->poll(run->watch->user, done) == 0)
        return 0;
    atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
    return 1;
}

/* ---- images ---- */

static int wrap(int i, int n)
{
    return ((i % n) + n) % n;
}

/* u8 pixels are (u/255 − 0.5)/0.5, as the plain loop reads them. */
static double pixel(const struct els_bank *bank, enum els_dtype dtype, size_t at)
{
    if (dtype == ELS_U8)
        return (((const uint8_t *)els_bank_images(bank))[at] / 255.0 - 0.5) / 0.5;
    return (double)((const float *)els_bank_images(bank))[at];
}

static int is_black(const struct els_bank *bank, enum els_dtype dtype, size_t at)
{
    return dtype == ELS_U8 ? ((const uint8_t *)els_bank_images(bank))[at] == 0
                           : ((const float *)els_bank_images(bank))[at] == -1.0f;
}

/* The pixel (0…h·w−1) that stands at row i, column j of a padded image, or −1 for none. */
static int padded_pixel(const struct els_scan_plan *plan, int i, int j)
{
    int h = plan->shape.h, w = plan->shape.w;

    i -= plan->rh;
    j -= plan->rw;
    if (els_machine_wraps(plan->q->machine))
        return wrap(i, h) * w + wrap(j, w);
    return i >= 0 && i < h && j >= 0 && j < w ? i * w + j : -1;
}

/* Is the patch around each pixel black all over? Sums of the padded map of pixels that are not. */
static void find_blanks(const struct els_scan_plan *plan, struct els_scan_work *work)
{
    int sh = 2 * plan->rh + 1, sw = 2 * plan->rw + 1;
    int32_t *column = work->lit;

    memset(column, 0, (size_t)plan->pw * sizeof(*column));
    for (int i = 0; i < plan->ph; i++) {
        const uint8_t *entering = work->black + (size_t)i * (size_t)plan->pw;
        int32_t sum = 0;

        for (int j = 0; j < plan->pw; j++) {
            column[j] += !entering[j];
            if (i >= sh)
                column[j] -= !entering[j - sh * plan->pw];
        }
        for (int j = 0; i + 1 >= sh && j < plan->pw; j++) {
            sum += column[j] - (j >= sw ? column[j - sw] : 0);
            if (j + 1 >= sw)
                work->blank[(i + 1 - sh) * plan->shape.w + j + 1 - sw] = sum == 0;
        }
    }
}

static void load_image(const struct els_scan_plan *plan, struct els_scan_work *work, int64_t image)
{
    const struct els_bank *bank = plan->q->bank;
    enum els_dtype dtype = els_bank_info(bank)->dtype;
    size_t plane = (size_t)plan->shape.h * (size_t)plan->shape.w, channels = (size_t)plan->shape.c;
    size_t first = (size_t)image * plane * channels, to = 0;

    for (int i = 0; i < plan->ph; i++)
        for (int j = 0; j < plan->pw; j++, to++) {
            int from = padded_pixel(plan, i, j);

            /* Outside a clipped window nothing counts: neither as a difference nor as light. */
            work->black[to] = 1;
            for (size_t c = 0; c < channels && from >= 0; c++) {
                size_t at = first + c * plane + (size_t)from;

                work->y[c * (size_t)plan->ph * (size_t)plan->pw + to] =
                    plan->q->a * pixel(bank, dtype, at);
                work->black[to] &= (uint8_t)is_black(bank, dtype, at);
            }
        }
    if (work->blank)
        find_blanks(plan, work);
}

/* ---- the plan ---- */

static double largest(const float *x, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

/*
 * Every addition of a fast or a plain distance rounds by at most 2⁻⁵³ of a value that no sum of squares exceeds.
 * A column's sum is added to and taken from twice per row, and enters a window's sum once.
 */
static double slack_of(const struct els_scan_plan *plan)
{
    double wide = 2.0 * plan->rw + 1, high = 2.0 * plan->rh + 1, values, most;

    if (els_machine_uses_p(plan->q->machine))
        values = wide * high * plan->shape.c;
    else
        values = (double)els_shape_values(plan->shape);
    most = largest(plan->q->x, els_shape_values(plan->shape)) + 1.001 * plan->q->a;
    return 0x1p-52 * values * most * most * (2 * values + 2 * plan->shape.h + 2 * wide + 8);
}

static int pad_x(struct els_scan_plan *plan)
{
    size_t padded = (size_t)plan->ph * (size_t)plan->pw,
           plane = (size_t)plan->shape.h * (size_t)plan->shape.w;

    plan->x = els_alloc_array((size_t)plan->shape.c * padded, sizeof(*plan->x));
    if (!plan->x)
        return ELS_ENOMEM;
    for (int i = 0; i < plan->ph; i++)
        for (int j = 0; j < plan->pw; j++) {
            int from = padded_pixel(plan, i, j);

            for (int c = 0; from >= 0 && c < plan->shape.c; c++)
                plan->x[(size_t)c * padded + (size_t)(i * plan->pw + j)] =
                    (double)plan->q->x[(size_t)c * plane + (size_t)from];
        }
    return 0;
}

/* The distances of every query's window from black, from an image that is black all over. */
static int measure_blank(struct els_scan_plan *plan)
{
    size_t padded = (size_t)plan->ph * (size_t)plan->pw;
    _cleanup_(els_freep) double *y = els_alloc_array((size_t)plan->shape.c * padded, sizeof(*y));

    plan->blank =
        els_alloc_array((size_t)plan->shape.h * (size_t)plan->shape.w, sizeof(*plan->blank));
    if (!y || !plan->blank)
        return ELS_ENOMEM;
    for (int i = 0; i < plan->ph; i++)
        for (int j = 0; j < plan->pw; j++)
            for (size_t c = 0; c < (size_t)plan->shape.c && padded_pixel(plan, i, j) >= 0; c++)
                y[c * padded + (size_t)(i * plan->pw + j)] = plan->q->a * -1.0;
    for (int i = 0; i < plan->shape.h; i++)
        for (int j = 0; j < plan->shape.w; j++)
            plan->blank[i * plan->shape.w + j] = els_scan_window_distance(plan, y, i, j, i, j);
    return 0;
}

/* A radius beyond the image adds nothing to a clipped window. */
static int radius(int p, int n)
{
    return p / 2 < n - 1 ? p / 2 : n - 1;
}

static int make_plan(struct els_scan_plan *plan, const struct els_scan_question *q)
{
    struct els_shape shape = els_bank_info(q->bank)->shape;
    int windows = els_machine_uses_p(q->machine), r = q->p / 2, status;

    *plan = (struct els_scan_plan){
        .q = q,
        .shape = shape,
        .pixels = windows ? (size_t)shape.h * (size_t)shape.w : 1,
        .rh = windows ? radius(q->p, shape.h) : 0,
        .rw = windows ? radius(q->p, shape.w) : 0,
        .inverse = q->beta > 0 ? 1 / (2 * q->beta) : 0,
    };
    plan->slack = slack_of(plan);
    plan->ph = shape.h + 2 * plan->rh;
    plan->pw = shape.w + 2 * plan->rw;
    status = pad_x(plan);
    if (status == 0 && windows)
        status = els_runs_new(&plan->rows, q->machine, q->candidates, shape.h, r, 0, shape.h);
    if (status == 0 && windows)
        status = els_runs_new(&plan->columns, q->machine, q->candidates, shape.w, r, 0, shape.w);
    if (status == 0 && windows)
        status = measure_blank(plan);
    /* A translate is read from a row that holds the image twice. */
    if (!windows)
        plan->pw = 2 * shape.w - 1;
    return status;
}

static void end_plan(struct els_scan_plan *plan)
{
    els_runs_deinit(&plan->rows);
    els_runs_deinit(&plan->columns);
    free(plan->x);
    free(plan->blank);
}

/* ---- parts and workers ---- */

static int new_work(const struct els_scan_plan *plan, struct els_scan_work *work)
{
    size_t padded = (size_t)plan->ph * (size_t)plan->pw,
           pixels = (size_t)plan->shape.h * (size_t)plan->shape.w;

    work->y = els_alloc_array((size_t)plan->shape.c * padded, sizeof(*work->y));
    work->black = els_alloc_array(padded, 1);
    work->square = els_alloc_array(padded, sizeof(*work->square));
    work->column = els_alloc_array(2 * (size_t)plan->pw, sizeof(*work->column));
    work->distance = els_alloc_array((size_t)plan->pw, sizeof(*work->distance));
    work->lit = els_alloc_array((size_t)plan->pw, sizeof(*work->lit));
    if (els_machine_uses_p(plan->q->machine)) {
        work->blank = els_alloc_array(pixels, 1);
        if (!work->blank)
            return ELS_ENOMEM;
    }
    return work->y && work->black && work->square && work->column && work->distance && work->lit
               ? 0
               : ELS_ENOMEM;
}

static void free_work(struct els_scan_work *work)
{
    free(work->y);
    free(work->black);
    free(work->blank);
    free(work->square);
    free(work->column);
    free(work->distance);
    free(work->lit);
}

static size_t part_bytes(const struct els_scan_plan *plan)
{
    return plan->pixels * ((size_t)plan->q->top * sizeof(struct els_found) + 5 * sizeof(double));
}

static int new_part(const struct els_scan_plan *plan, struct els_scan_part *part)
{
    size_t n = plan->pixels, entries = n * (size_t)plan->q->top;
    /* One block: limit, least, near, s, u. */
    double *block = els_alloc_array(n, 5 * sizeof(double));

    part->found = els_alloc_array(entries, sizeof(*part->found));
    part->limit = block;
    if (!block || !part->found)
        return ELS_ENOMEM;
    part->least = block + n;
    part->near = block + 2 * n;
    part->s = block + 3 * n;
    part->u = block + 4 * n;
    for (size_t i = 0; i < 3 * n; i++)
        block[i] = INFINITY;
    for (size_t i = 0; i < entries; i++)
        part->found[i] = (struct els_found){.distance = INFINITY, .image = -1};
    return 0;
}

static void free_part(struct els_scan_part *part)
{
    free(part->found);
    free(part->limit);
}

/* One part of the bank: a run of the selected images. */
static void walk(void *arg, size_t index, int worker)
{
    struct run *run = arg;
    const struct els_scan_plan *plan = &run->plan;
    struct els_scan_work *work = &run->work[worker];
    struct looking at = {run, work};
    int64_t n = plan->q->num_images, from = n * (int64_t)index / run->parts,
            to = n * ((int64_t)index + 1) / run->parts;

    for (int64_t i = from; i < to && !look_in(&at); i++) {
        load_image(plan, work, plan->q->images[i]);
        if (els_machine_uses_p(plan->q->machine))
            els_scan_windows(plan, work, (int32_t)plan->q->images[i], &run->part[index], look_in,
                             &at);
        else
            els_scan_whole(plan, work, (int32_t)plan->q->images[i], &run->part[index], look_in,
                           &at);
        atomic_fetch_add_explicit(&run->done, 1, memory_order_relaxed);
    }
}

static int start(struct run *run)
{
    int64_t most = PARTS_BYTES / (int64_t)part_bytes(&run->plan), n = run->plan.q->num_images;
    int status = 0;

    most = most < 1 ? 1 : most > MAX_PARTS ? MAX_PARTS : most;
    run->parts = (int)(n < most ? n : most);
    run->part = els_alloc_array((size_t)run->parts, sizeof(*run->part));
    run->work = els_alloc_array((size_t)run->threads, sizeof(*run->work));
    if (!run->part || !run->work)
        return ELS_ENOMEM;
    for (int i = 0; i < run->parts && status == 0; i++)
        status = new_part(&run->plan, &run->part[i]);
    for (int i = 0; i < run->threads && status == 0; i++)
        status = new_work(&run->plan, &run->work[i]);
    return status;
}

static void finish(struct run *run)
{
    for (int i = 0; run->part && i < run->parts; i++)
        free_part(&run->part[i]);
    for (int i = 0; run->work && i < run->threads; i++)
        free_work(&run->work[i]);
    free(run->part);
    free(run->work);
    end_plan(&run->plan);
}

int els_scan_run(struct els_scan *out, const struct els_scan_question *q, struct els_pool *pool,
                 const struct els_watch *watch)
{
    struct run run = {.threads = els_pool_threads(pool), .watch = watch};
    int status = make_plan(&run.plan, q);

    if (status == 0)
        status = start(&run);
    if (status == 0) {
        els_pool_run(pool, (size_t)run.parts, walk, &run);
        if (atomic_load(&run.stop))
            status = ELS_ECANCELLED;
    }
    if (status == 0) {
        struct els_scan_part *all = &run.part[0];

        for (int i = 1; i < run.parts; i++)
            els_scan_merge(&run.plan, all, &run.part[i]);
        *out = (struct els_scan){
            .pixels = run.plan.pixels,
            .top = q->top,
            .found = all->found,
            .block = all->limit,
            .least = all->least,
            .s = all->s,
            .u = all->u,
        };
        *all = (struct els_scan_part){0};
    }
    finish(&run);
    return status;
}

void els_scan_deinit(struct els_scan *scan)
{
    free(scan->found);
    free(scan->block);
    *scan = (struct els_scan){0};
}
