/*
 * The candidates of ls, els and bbels in eight bank images (eq. 7–10, 38, 41). Called by a scan's
 * workers.
 *
 * For one displacement between query and source, the squared differences are computed once and
 * summed over windows by running sums, in float64: the fast distance. It differs from the plain
 * loop's by rounding alone, by less than plan->slack. Candidates that this leaves in doubt are
 * summed again as the plain loop does, so what is kept is exact.
 */
#include <string.h>

#include "core/scan/scan_internal.h"

enum { LANES = ELS_SCAN_LANES };

double els_scan_window_distance(const struct els_scan_plan *plan, const double *y, size_t lanes,
                                int i, int j, int k, int l)
{
    size_t width = (size_t)plan->pw, plane = width * (size_t)plan->ph;
    double sum = 0;

    /* Outside a clipped window both sides are 0, and add nothing: the plain loop skips it. */
    for (int di = 0; di <= 2 * plan->rh; di++)
        for (int dj = 0; dj <= 2 * plan->rw; dj++)
            for (size_t c = 0; c < (size_t)plan->shape.c; c++) {
                size_t from = c * plane + (size_t)(k + di) * width + (size_t)(l + dj);
                double d = plan->x[c * plane + (size_t)(i + di) * width + (size_t)(j + dj)] -
                           y[from * lanes];

                sum += d * d;
            }
    return sum;
}

/* Who is to be asked whether to go on. */
struct asking {
    int (*stop)(void *user);
    void *user;
};

/* The row of queries (i, j…j+n−1) met the sources (k, l…l+n−1) at the fast distances
 * work->distance. Windows can be large, and at first all of them are near: it asks at each query. */
static void take_row(const struct els_scan_plan *plan, struct els_scan_work *work, int i, int j,
                     int k, int l, int n, const struct asking *ask)
{
    size_t q = (size_t)(i * plan->shape.w + j);

    for (int b = 0; b < n && !ask->stop(ask->user); b++)
        for (int lane = 0; lane < LANES; lane++) {
            struct els_found candidate = {
                .image = work->image[lane], .row = (int16_t)k, .column = (int16_t)(l + b)};

            if (!(work->distance[b * LANES + lane] < work->limit[q + (size_t)b]))
                continue;
            candidate.distance =
                els_scan_window_distance(plan, work->y + lane, LANES, i, j + b, k, l + b);
            els_scan_keep(plan, work, q + (size_t)b, &candidate);
        }
}

/* One displacement: all queries of a run of rows and a run of columns. */
static void sweep(const struct els_scan_plan *plan, struct els_scan_work *work,
                  const struct els_run *rows, const struct els_run *columns,
                  const struct asking *ask)
{
    int side = 2 * plan->rh + 1, ahead = side - 1;
    size_t width = (size_t)plan->pw, w = (size_t)plan->shape.w;
    struct els_scan_row row = {
        .plane = width * (size_t)plan->ph,
        .channels = plan->shape.c,
        .count = columns->count,
        .width = 2 * plan->rw + 1,
        .column = work->column,
        .distance = work->distance,
    };

    memset(work->square, 0, (size_t)side * width * LANES * sizeof(*work->square));
    memset(work->column, 0, width * LANES * sizeof(*work->column));
    /* Query i stands in padded row i + rh: its window begins in padded row i. */
    for (int a = 0; a < rows->count + ahead; a++) {
        int i = rows->query + a - ahead, k = rows->source + a - ahead, found;
        size_t q = (size_t)i * w + (size_t)columns->query;

        row.x = plan->x + (size_t)(rows->query + a) * width + columns->query;
        row.y = work->y + ((size_t)(rows->source + a) * width + (size_t)columns->source) * LANES;
        row.square = work->square + (size_t)(a % side) * width * LANES;
        if (a < ahead) {
            plan->loops->enter(&row);
            continue;
        }
        row.apart = work->apart + ((size_t)k * w + (size_t)columns->source) * LANES;
        row.limit = work->limit + q;
        row.near = work->near + q;
        found = plan->loops->slide(&row);
        if (found & ELS_SCAN_HIT)
            take_row(plan, work, i, columns->query, k, columns->source, columns->count, ask);
        if (found & ELS_SCAN_NEAR)
            els_scan_weigh(plan, work, q, work->distance, columns->count);
    }
}

void els_scan_windows(const struct els_scan_plan *plan, struct els_scan_work *work, int strip,
                      int (*stop)(void *user), void *user)
{
    const struct asking ask = {stop, user};

    for (int c = 0; c < plan->columns.count && !stop(user); c++)
        sweep(plan, work, &plan->rows.run[strip], &plan->columns.run[c], &ask);
}
