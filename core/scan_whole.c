/*
 * The candidates of is and es in one bank image (eq. 3–6): the image in place, or all its circular translates.
 * Called by a scan's workers. All pixels share these candidates, so the result has one pixel.
 *
 * The fast distance adds the values of a column first; as with windows, candidates in doubt are summed again in
 * the plain loop's order.
 */
#include <string.h>

#include "scan_internal.h"

/* x(i,·) meets y(i+dy, dx+·); y's rows hold 2w−1 values, the image twice over. */
static const double *source_row(const struct els_scan_plan *plan, const double *y, int c, int i,
                                int dy, int dx)
{
    int row = i + dy < plan->shape.h ? i + dy : i + dy - plan->shape.h;

    return y + ((size_t)c * (size_t)plan->ph + (size_t)row) * (size_t)plan->pw + dx;
}

static double plain_distance(const struct els_scan_plan *plan, const double *y, int dy, int dx)
{
    size_t w = (size_t)plan->shape.w;
    const double *x = plan->x;
    double sum = 0;

    for (int c = 0; c < plan->shape.c; c++)
        for (int i = 0; i < plan->shape.h; i++, x += w) {
            const double *from = source_row(plan, y, c, i, dy, dx);

            for (size_t j = 0; j < w; j++) {
                double d = x[j] - from[j];

                sum += d * d;
            }
        }
    return sum;
}

static double fast_distance(const struct els_scan_plan *plan, struct els_scan_work *work, int dy,
                            int dx)
{
    int w = plan->shape.w;
    double *restrict column = work->column;
    const double *x = plan->x;
    double sum = 0;

    memset(column, 0, (size_t)w * sizeof(*column));
    for (int c = 0; c < plan->shape.c; c++)
        for (int i = 0; i < plan->shape.h; i++, x += w) {
            const double *from = source_row(plan, work->y, c, i, dy, dx);

            for (int j = 0; j < w; j++) {
                double d = x[j] - from[j];

                column[j] += d * d;
            }
        }
    for (int j = 0; j < w; j++)
        sum += column[j];
    return sum;
}

void els_scan_whole(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                    struct els_scan_part *part, int (*stop)(void *user), void *user)
{
    int moves = plan->q->machine == ELS_MACHINE_ES;

    for (int dy = 0; dy < (moves ? plan->shape.h : 1) && !stop(user); dy++)
        for (int dx = 0; dx < (moves ? plan->shape.w : 1); dx++) {
            struct els_found candidate = {
                .image = image, .row = (int16_t)dy, .column = (int16_t)dx};
            double d = fast_distance(plan, work, dy, dx);

            if (d <= part->limit[0]) {
                candidate.distance = plain_distance(plan, work->y, dy, dx);
                els_scan_keep(plan, part, 0, &candidate);
            }
            if (plan->inverse > 0)
                els_scan_weigh(plan, part, 0, &d, 1);
        }
}
