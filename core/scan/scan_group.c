/*
 * Eight bank images side by side, and their patches that are black all over. Called by a scan's
 * workers.
 *
 * A bank of drawings has very many patches that are black all over, all at the very same distance
 * from a query. They are kept out of the walk: counted from sums over a rectangle of sources, and
 * the first of them, which are the only ones that can enter a list, are looked up. Black is what
 * equals a·(−1), so the distance is exact.
 */
#include <math.h>
#include <string.h>

#include "core/scan/scan_internal.h"

enum { LANES = ELS_SCAN_LANES };

/* The number of blank patches of an image above row k and left of column l. */
static int32_t *blanks_at(const struct els_scan_plan *plan, const struct els_scan_work *work,
                          int lane, int k, int l)
{
    return &work->blanks[(lane * (plan->shape.h + 1) + k) * (plan->shape.w + 1) + l];
}

/* The patch whose window ends in padded row i, column j is centred 2·radius before. */
static void set_blank(const struct els_scan_plan *plan, struct els_scan_work *work, int lane, int i,
                      int j, int blank)
{
    int k = i - 2 * plan->rh, l = j - 2 * plan->rw;

    work->apart[(k * plan->shape.w + l) * LANES + lane] = blank ? INFINITY : 0;
    *blanks_at(plan, work, lane, k + 1, l + 1) = blank + *blanks_at(plan, work, lane, k, l + 1) +
                                                 *blanks_at(plan, work, lane, k + 1, l) -
                                                 *blanks_at(plan, work, lane, k, l);
}

/* Sums of the padded map of pixels that are not black. */
static void find_blanks(const struct els_scan_plan *plan, struct els_scan_work *work, int lane)
{
    int side = 2 * plan->rh + 1, width = 2 * plan->rw + 1;
    int32_t *lit = work->lit;

    memset(lit, 0, (size_t)plan->pw * sizeof(*lit));
    for (int i = 0; i < plan->ph; i++) {
        const uint8_t *black = work->black + (size_t)i * (size_t)plan->pw;
        int32_t sum = 0;

        for (int j = 0; j < plan->pw; j++) {
            lit[j] += !black[j] - (i >= side && !black[j - side * plan->pw]);
            sum += lit[j] - (j >= width ? lit[j - width] : 0);
            if (i + 1 >= side && j + 1 >= width)
                set_blank(plan, work, lane, i, j, sum == 0);
        }
    }
}

static double value_of(const struct els_scan_plan *plan, size_t at)
{
    const struct els_bank *bank = plan->q->bank;

    if (els_bank_info(bank)->dtype == ELS_U8)
        return plan->value[((const uint8_t *)els_bank_images(bank))[at]];
    return plan->q->a * (double)((const float *)els_bank_images(bank))[at];
}

static void load_lane(const struct els_scan_plan *plan, struct els_scan_work *work, int lane)
{
    size_t plane = (size_t)plan->shape.h * (size_t)plan->shape.w, to = 0;
    size_t padded = (size_t)plan->ph * (size_t)plan->pw, channels = (size_t)plan->shape.c;
    size_t first = (size_t)work->image[lane] * plane * channels;
    double dark = plan->q->a * -1.0;

    for (int i = 0; i < plan->ph; i++)
        for (int j = 0; j < plan->pw; j++, to++) {
            int row = plan->row_at[i], column = plan->column_at[j], black = 1;

            /* Outside a clipped window nothing counts: neither as a difference nor as light. */
            for (size_t c = 0; c < channels && row >= 0 && column >= 0; c++) {
                double y =
                    value_of(plan, first + c * plane + (size_t)(row * plan->shape.w + column));

                work->y[(c * padded + to) * LANES + (size_t)lane] = y;
                black &= y == dark;
            }
            work->black[to] = (uint8_t)black;
        }
}

static void empty_lane(const struct els_scan_plan *plan, struct els_scan_work *work, int lane)
{
    size_t values = (size_t)plan->shape.c * (size_t)plan->ph * (size_t)plan->pw;

    for (size_t i = 0; i < values; i++)
        work->y[i * LANES + (size_t)lane] = 0;
    for (size_t i = 0; i < plan->pixels; i++)
        work->apart[i * LANES + (size_t)lane] = INFINITY;
}

void els_scan_load(const struct els_scan_plan *plan, struct els_scan_work *work, int64_t group)
{
    int64_t first = group * LANES, left = plan->q->num_images - first;

    work->group = group;
    work->count = (int)(left < LANES ? left : LANES);
    for (int lane = 0; lane < LANES; lane++) {
        if (lane >= work->count) {
            empty_lane(plan, work, lane);
            continue;
        }
        work->image[lane] = (int32_t)plan->q->images[first + lane];
        load_lane(plan, work, lane);
        if (els_machine_uses_p(plan->q->machine))
            find_blanks(plan, work, lane);
        else
            work->apart[lane] = 0;
    }
}

/* ---- blank candidates ---- */

/* Into the list of query q go the first blank patches of the sources, as long as it takes them. */
static void keep_blanks(const struct els_scan_plan *plan, struct els_scan_work *work, int lane,
                        size_t q, struct els_scan_range rows, struct els_scan_range columns)
{
    struct els_found blank = {.distance = plan->blank[q], .image = work->image[lane]};
    const struct els_found *last = &work->found[(q + 1) * (size_t)plan->q->top - 1];

    for (int k = rows.from; k < rows.to && els_found_precedes(&blank, last); k++)
        for (int l = columns.from; l < columns.to; l++) {
            if (work->apart[(k * plan->shape.w + l) * LANES + lane] == 0)
                continue;
            blank.row = (int16_t)k;
            blank.column = (int16_t)l;
            if (!els_scan_keep(plan, work, q, &blank))
                return;
        }
}

void els_scan_take_blanks(const struct els_scan_plan *plan, struct els_scan_work *work)
{
    int h = plan->shape.h, w = plan->shape.w;

    for (int lane = 0; lane < work->count; lane++)
        for (int i = 0; i<h && * blanks_at(plan, work, lane, h, w)> 0; i++)
            for (int j = 0; j < w; j++) {
                struct els_scan_range rows = plan->rows_of[i], columns = plan->columns_of[j];
                size_t q = (size_t)(i * w + j);
                int32_t n = *blanks_at(plan, work, lane, rows.to, columns.to) -
                            *blanks_at(plan, work, lane, rows.from, columns.to) -
                            *blanks_at(plan, work, lane, rows.to, columns.from) +
                            *blanks_at(plan, work, lane, rows.from, columns.from);

                work->blank_count[q] += n;
                if (n > 0)
                    keep_blanks(plan, work, lane, q, rows, columns);
            }
}
