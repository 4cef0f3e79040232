/*
 * The candidates of ls, els and bbels in one bank image (eq. 7–10, 38, 41). Called by a scan's workers.
 *
 * For one displacement between query and source, the squared differences are computed once and summed over windows
 * by running sums, in float64: the fast distance. It differs from the plain loop's by rounding alone, at most by
 * plan->slack. Candidates that this leaves in doubt are summed again as the plain loop does, so what is kept is
 * exact. A patch that is black all over, of which a bank of drawings has very many at the very same
 * distance, is not summed again: its plain distance is known per query pixel.
 */
#include <string.h>

#include "scan_internal.h"

double els_scan_window_distance(const struct els_scan_plan *plan, const double *y, int i, int j,
                                int k, int l)
{
    size_t width = (size_t)plan->pw, plane = width * (size_t)plan->ph;
    double sum = 0;

    /* Outside a clipped window both sides are 0, which adds nothing: the plain loop leaves it out. */
    for (int di = 0; di <= 2 * plan->rh; di++)
        for (int dj = 0; dj <= 2 * plan->rw; dj++)
            for (size_t c = 0; c < (size_t)plan->shape.c; c++) {
                double d = plan->x[c * plane + (size_t)(i + di) * width + (size_t)(j + dj)] -
                           y[c * plane + (size_t)(k + di) * width + (size_t)(l + dj)];

                sum += d * d;
            }
    return sum;
}

/* Squared differences, summed over channels, of `rows`×`columns` padded pixels from (i,j) and (k,l) on. */
static void square_differences(const struct els_scan_plan *plan, struct els_scan_work *work, int i,
                               int j, int k, int l, int rows, int columns)
{
    size_t width = (size_t)plan->pw, plane = width * (size_t)plan->ph;

    for (int a = 0; a < rows; a++) {
        double *restrict to = work->square + (size_t)a * width;

        for (int c = 0; c < plan->shape.c; c++) {
            const double *x = plan->x + (size_t)c * plane + (size_t)(i + a) * width + j;
            const double *y = work->y + (size_t)c * plane + (size_t)(k + a) * width + l;

            for (int b = 0; b < columns; b++) {
                double d = x[b] - y[b];

                to[b] = c == 0 ? d * d : to[b] + d * d;
            }
        }
    }
}

/* to[b] = from[b] + … + from[b+width−1] for b < n, by doubling; from is used up. */
static void sum_columns(double *restrict to, double *restrict from, int n, int width)
{
    int length = n + width - 1, offset = 0;

    memset(to, 0, (size_t)n * sizeof(*to));
    for (int span = 1; span <= width; span *= 2) {
        if (width & span) {
            for (int b = 0; b < n; b++)
                to[b] += from[b + offset];
            offset += span;
        }
        length -= span;
        for (int b = 0; b < length; b++)
            from[b] += from[b + span];
    }
}

/* The row of queries (i, j…j+n−1) met the sources (k, l…l+n−1) at the fast distances work->distance. */
static void take_row(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                     struct els_scan_part *part, int i, int j, int k, int l, int n)
{
    size_t w = (size_t)plan->shape.w, q = (size_t)i * w + (size_t)j;
    const double *d = work->distance, *limit = part->limit + q;
    const uint8_t *blank = work->blank + (size_t)k * w + l;
    int64_t any = 0;

    for (int b = 0; b < n; b++)
        any |= d[b] <= limit[b];
    for (int b = 0; any && b < n; b++) {
        struct els_found candidate = {
            .image = image, .row = (int16_t)k, .column = (int16_t)(l + b)};

        if (!(d[b] <= limit[b]))
            continue;
        candidate.distance = blank[b] ? plan->blank[q + (size_t)b]
                                      : els_scan_window_distance(plan, work->y, i, j + b, k, l + b);
        els_scan_keep(plan, part, q + (size_t)b, &candidate);
    }
    if (plan->inverse > 0)
        els_scan_weigh(plan, part, q, d, n);
}

/* One displacement: all queries of a run of rows and a run of columns. */
static void sweep(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                  struct els_scan_part *part, const struct els_run *row,
                  const struct els_run *column)
{
    int columns = column->count + 2 * plan->rw, side = 2 * plan->rh + 1;
    size_t width = (size_t)plan->pw;
    double *sum = work->column, *spent = work->column + width;

    /* Query i stands in padded row i + rh: its window begins in padded row i. */
    square_differences(plan, work, row->query, column->query, row->source, column->source,
                       row->count + side - 1, columns);
    memset(sum, 0, (size_t)columns * sizeof(*sum));
    for (int a = 0; a < side; a++)
        for (int b = 0; b < columns; b++)
            sum[b] += work->square[(size_t)a * width + (size_t)b];
    for (int i = 0; i < row->count; i++) {
        const double *leaving = work->square + (size_t)i * width,
                     *entering = leaving + (size_t)side * width;

        memcpy(spent, sum, (size_t)columns * sizeof(*sum));
        sum_columns(work->distance, spent, column->count, 2 * plan->rw + 1);
        take_row(plan, work, image, part, row->query + i, column->query, row->source + i,
                 column->source, column->count);
        for (int b = 0; i + 1 < row->count && b < columns; b++)
            sum[b] += entering[b] - leaving[b];
    }
}

void els_scan_windows(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                      struct els_scan_part *part, int (*stop)(void *user), void *user)
{
    for (int r = 0; r < plan->rows.count && !stop(user); r++)
        for (int c = 0; c < plan->columns.count; c++)
            sweep(plan, work, image, part, &plan->rows.run[r], &plan->columns.run[c]);
}
