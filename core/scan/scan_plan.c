/*
 * What does not change while a scan runs: the padded query, where candidates may come from, and how
 * the work is cut. Called by the thread that runs the scan, before its workers start and after they
 * ended.
 *
 * The cut depends on the question alone, so the sums of the weights do not depend on the number of
 * threads.
 */
#include <math.h>
#include <stdlib.h>

#include "core/scan/scan_internal.h"
#include "els/mem.h"

enum {
    PART_PAIRS = 1 << 23,   /* fewer are not worth a part: some milliseconds */
    VALUES_PER_POLL = 1 << 22, /* some milliseconds */
};

static int wrap(int i, int n)
{
    return ((i % n) + n) % n;
}

/* Padded row (or column) i begins `radius` before the image. */
static int *padding(int wraps, int padded, int radius, int n)
{
    int *at = els_alloc_array((size_t)padded, sizeof(*at));

    for (int i = 0; at && i < padded; i++) {
        int from = i - radius;

        at[i] = wraps ? wrap(from, n) : from >= 0 && from < n ? from : -1;
    }
    return at;
}

static struct els_scan_range *sources(const struct els_scan_question *q, int n)
{
    struct els_scan_range *of = els_alloc_array((size_t)n, sizeof(*of));

    for (int i = 0; of && i < n; i++)
        els_sources_of(q->machine, q->candidates, n, q->p / 2, i, &of[i].from, &of[i].to);
    return of;
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
            int row = plan->row_at[i], column = plan->column_at[j];

            for (int c = 0; row >= 0 && column >= 0 && c < plan->shape.c; c++)
                plan->x[(size_t)c * padded + (size_t)(i * plan->pw + j)] =
                    (double)plan->q->x[(size_t)c * plane + (size_t)(row * plan->shape.w + column)];
        }
    return 0;
}

/* The distances of every query's window from black, from an image that is black all over. */
static int measure_blank(struct els_scan_plan *plan, const struct els_progress *progress)
{
    size_t padded = (size_t)plan->ph * (size_t)plan->pw;
    _cleanup_(els_freep) double *y = els_alloc_array((size_t)plan->shape.c * padded, sizeof(*y));
    double side = 2 * (double)plan->rh + 1, summed = 0;

    plan->blank = els_alloc_array(plan->pixels, sizeof(*plan->blank));
    if (!y || !plan->blank)
        return ELS_ENOMEM;
    for (int i = 0; i < plan->ph; i++)
        for (int j = 0; j < plan->pw; j++)
            for (int c = 0; c < plan->shape.c && plan->row_at[i] >= 0 && plan->column_at[j] >= 0;
                 c++)
                y[(size_t)c * padded + (size_t)(i * plan->pw + j)] = plan->q->a * -1.0;
    for (int i = 0; i < plan->shape.h; i++)
        for (int j = 0; j < plan->shape.w; j++) {
            summed += side * (2 * (double)plan->rw + 1) * plan->shape.c;
            if (progress && summed > VALUES_PER_POLL) {
                if (progress->poll(progress->user, 0))
                    return ELS_ECANCELLED;
                summed = 0;
            }
            plan->blank[i * plan->shape.w + j] = els_scan_window_distance(plan, y, 1, i, j, i, j);
        }
    return 0;
}

/*
 * Every addition of a fast or a plain distance rounds by at most 2⁻⁵³ of a value that no sum of
 * squares exceeds. A column's sum is added to and taken from once per row, and enters a window's
 * sum; that one is added to and taken from once per column.
 */
static double slack_of(const struct els_scan_plan *plan)
{
    size_t n = els_shape_values(plan->shape);
    double values = (double)n, most = 0;

    if (els_machine_uses_p(plan->q->machine))
        values = (2.0 * plan->rh + 1) * (2.0 * plan->rw + 1) * plan->shape.c;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)plan->q->x[i]));
    /* |x − a·y|; one more, so that the slack is never 0. */
    most += 1.001 * plan->q->a + 1;
    return 0x1p-52 * values * most * most * (2 * values + 2 * plan->ph + 2 * plan->pw + 8);
}

/* All candidates of a pixel beyond it together have e^−30 of the heaviest weight: 1e-13. */
static double reach_of(const struct els_scan_plan *plan)
{
    double images = (double)plan->q->num_images;

    return (30 + log(images * plan->shape.h * plan->shape.w)) * 2 * plan->q->beta;
}

static void cut(struct els_scan_plan *plan)
{
    int64_t sums = ELS_SCAN_SUMS_BYTES / (int64_t)(plan->pixels * 3 * sizeof(double));
    double pairs = (double)plan->q->num_images, parts;

    plan->groups = (plan->q->num_images + ELS_SCAN_LANES - 1) / ELS_SCAN_LANES;
    if (els_machine_uses_p(plan->q->machine)) {
        plan->strips = plan->rows.count;
        pairs *= (double)els_runs_pairs(&plan->rows) * (double)els_runs_pairs(&plan->columns);
    } else {
        plan->strips = plan->q->machine == ELS_MACHINE_ES ? plan->shape.h : 1;
        /* A value of a translate takes about an eighth of a pair's time. */
        pairs *= (double)els_shape_values(plan->shape) * plan->strips * plan->shape.w / 8;
    }
    parts = fmin(fmin(ELS_SCAN_PARTS, pairs / PART_PAIRS), (double)sums);
    parts = fmin(parts, (double)plan->groups * plan->strips);
    plan->parts = parts < 1 ? 1 : (int)parts;
}

/* A radius beyond the image adds nothing to a clipped window. */
static int radius(int p, int n)
{
    return p / 2 < n - 1 ? p / 2 : n - 1;
}

static int init_windows(struct els_scan_plan *plan, const struct els_progress *progress)
{
    const struct els_scan_question *q = plan->q;
    int h = plan->shape.h, w = plan->shape.w, status;

    plan->rows_of = sources(q, h);
    plan->columns_of = sources(q, w);
    if (!plan->rows_of || !plan->columns_of)
        return ELS_ENOMEM;
    status = els_runs_new(&plan->rows, q->machine, q->candidates, h, q->p / 2, 0, h);
    if (status == 0)
        status = els_runs_new(&plan->columns, q->machine, q->candidates, w, q->p / 2, 0, w);
    return status == 0 ? measure_blank(plan, progress) : status;
}

void els_scan_plan_sizes(struct els_scan_plan *plan, const struct els_scan_question *q)
{
    struct els_shape shape = els_bank_info(q->bank)->shape;
    int windows = els_machine_uses_p(q->machine);

    *plan = (struct els_scan_plan){
        .q = q,
        .loops = els_scan_loops_chosen(),
        .shape = shape,
        .pixels = windows ? (size_t)shape.h * (size_t)shape.w : 1,
        .rh = windows ? radius(q->p, shape.h) : 0,
        .rw = windows ? radius(q->p, shape.w) : 0,
        .inverse = q->beta > 0 ? 1 / (2 * q->beta) : 0,
    };
    plan->ph = shape.h + 2 * plan->rh;
    /* A translate is read from a row that holds the image twice, and more for those abreast. */
    plan->pw = windows ? shape.w + 2 * plan->rw : 2 * shape.w + ELS_SCAN_ABREAST - 2;
}

int els_scan_plan_init(struct els_scan_plan *plan, const struct els_scan_question *q,
                       const struct els_progress *progress)
{
    struct els_shape shape = els_bank_info(q->bank)->shape;
    int windows = els_machine_uses_p(q->machine), wraps = els_machine_wraps(q->machine), status;

    els_scan_plan_sizes(plan, q);
    for (int u = 0; u < 256; u++)
        plan->value[u] = q->a * ((u / 255.0 - 0.5) / 0.5); /* as the plain loop reads them */
    plan->reach = reach_of(plan);
    plan->slack = slack_of(plan);
    plan->row_at = padding(wraps, plan->ph, plan->rh, shape.h);
    plan->column_at = padding(wraps || !windows, plan->pw, plan->rw, shape.w);
    status = plan->row_at && plan->column_at ? pad_x(plan) : ELS_ENOMEM;
    if (status == 0 && windows)
        status = init_windows(plan, progress);
    if (status == 0)
        cut(plan);
    return status;
}

void els_scan_plan_deinit(struct els_scan_plan *plan)
{
    els_runs_deinit(&plan->rows);
    els_runs_deinit(&plan->columns);
    free(plan->rows_of);
    free(plan->columns_of);
    free(plan->row_at);
    free(plan->column_at);
    free(plan->x);
    free(plan->blank);
}
