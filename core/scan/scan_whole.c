/*
 * The candidates of is and es in eight bank images (eq. 3–6): the images in place, or all their
 * circular translates. Called by a scan's workers. All pixels share these candidates, so the result
 * has one pixel.
 *
 * The fast distances add up row by row, and are given up where all are too large already. As with
 * windows, candidates in doubt are summed again in the plain loop's order.
 */
#include <math.h>
#include <string.h>

#include "core/scan/scan_internal.h"

enum { LANES = ELS_SCAN_LANES };

/* x(i,·) meets y(i+dy, dx+·); y's rows hold the image twice over. */
static const double *source_row(const struct els_scan_plan *plan, const struct els_scan_work *work,
                                int c, int i, int dy, int dx)
{
    int row = i + dy < plan->shape.h ? i + dy : i + dy - plan->shape.h;

    return work->y + ((size_t)(c * plan->ph + row) * (size_t)plan->pw + (size_t)dx) * LANES;
}

static double plain_distance(const struct els_scan_plan *plan, const struct els_scan_work *work,
                             int lane, int dy, int dx)
{
    const double *x = plan->x;
    double sum = 0;

    for (int c = 0; c < plan->shape.c; c++)
        for (int i = 0; i < plan->shape.h; i++, x += plan->pw) {
            const double *from = source_row(plan, work, c, i, dy, dx) + lane;

            for (int j = 0; j < plan->shape.w; j++) {
                double d = x[j] - from[j * LANES];

                sum += d * d;
            }
        }
    return sum;
}

/* The translates (dy, dx … dx+ABREAST−1). Returns 0 once no distance can be below the bound any
 * more. */
static int add_up(const struct els_scan_plan *plan, struct els_scan_work *work, int dy, int dx)
{
    double bound = fmax(work->limit[0], work->near[0]);
    const double *x = plan->x;

    for (int t = 0; t < ELS_SCAN_ABREAST; t++)
        memcpy(work->distance + t * LANES, work->apart, LANES * sizeof(*work->apart));
    for (int c = 0; c < plan->shape.c; c++)
        for (int i = 0; i < plan->shape.h; i++, x += plan->pw)
            if (!plan->loops->add_translates(
                    work->distance, x, source_row(plan, work, c, i, dy, dx), plan->shape.w, bound))
                return 0;
    return 1;
}

static void take(const struct els_scan_plan *plan, struct els_scan_work *work, const double *d,
                 int dy, int dx)
{
    for (int lane = 0; lane < LANES; lane++) {
        struct els_found candidate = {
            .image = work->image[lane], .row = (int16_t)dy, .column = (int16_t)dx};

        if (!(d[lane] < work->limit[0]))
            continue;
        candidate.distance = plain_distance(plan, work, lane, dy, dx);
        els_scan_keep(plan, work, 0, &candidate);
    }
    if (plan->inverse > 0)
        els_scan_weigh(plan, work, 0, d, 1);
}

void els_scan_whole(const struct els_scan_plan *plan, struct els_scan_work *work, int strip,
                    int (*stop)(void *user), void *user)
{
    int columns = plan->q->machine == ELS_MACHINE_ES ? plan->shape.w : 1;

    for (int dx = 0; dx < columns && !stop(user); dx += ELS_SCAN_ABREAST)
        if (add_up(plan, work, strip, dx))
            for (int t = 0; t < ELS_SCAN_ABREAST && dx + t < columns; t++)
                take(plan, work, work->distance + t * LANES, strip, dx + t);
}
