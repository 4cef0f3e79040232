/*
 * The inner loops of a scan (scan_loops.h): for every width of vectors that this CPU has, the bytes
 * of the same sums written out here, value by value. What a scan finds is held to the definitions
 * by test_mosaic.c.
 */
#include <math.h>
#include <string.h>

#include "core/scan/scan_internal.h"
#include "els/mem.h"
#include "unit.h"

enum {
    LANES = ELS_SCAN_LANES,
    MOST = 23, /* columns of a row */
    CHANNELS = 4,
    PLANE = 40,
    ROUNDS = 200,
};

/* Two sets of what the loops change: what a table makes of it, and what should come out. */
struct sums {
    _Alignas(64) double square[MOST * LANES], column[MOST * LANES], distance[MOST * LANES];
    _Alignas(64) double s[MOST * LANES], u[MOST * LANES];
};

static struct {
    double x[CHANNELS * PLANE], limit[MOST], near[MOST];
    _Alignas(64) double y[CHANNELS * PLANE * LANES], apart[MOST * LANES];
} given;

static struct sums made, expected;

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

static void fill(double *p, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        p[i] = 2 * uniform(state) - 1;
}

static struct els_scan_row draw(uint64_t *state)
{
    struct els_scan_row row = {.plane = PLANE, .channels = 1 + (int)(4 * uniform(state))};

    row.width = 1 + (int)(8 * uniform(state));
    row.count = 1 + (int)((MOST - row.width) * uniform(state));
    fill(given.x, sizeof(given.x) / sizeof(double), state);
    fill(given.y, sizeof(given.y) / sizeof(double), state);
    fill(expected.square, MOST * LANES, state);
    fill(expected.column, MOST * LANES, state);
    fill(expected.s, MOST * LANES, state);
    fill(expected.u, MOST * LANES, state);
    for (int i = 0; i < MOST * LANES; i++)
        given.apart[i] = uniform(state) < 0.3 ? INFINITY : 0;
    for (int i = 0; i < MOST; i++) {
        given.limit[i] = uniform(state) < 0.9 ? -100 : 2 * uniform(state);
        given.near[i] = uniform(state) < 0.9 ? -100 : 2 * uniform(state);
    }
    made = expected;
    row.x = given.x;
    row.y = given.y;
    row.square = made.square;
    row.column = made.column;
    row.distance = made.distance;
    row.apart = given.apart;
    row.limit = given.limit;
    row.near = given.near;
    return row;
}

static void enter(const struct els_scan_row *row)
{
    for (int i = 0; i < (row->count + row->width - 1) * LANES; i++) {
        double sum = 0;

        for (int c = 0; c < row->channels; c++) {
            double d = given.x[c * PLANE + i / LANES] - given.y[c * PLANE * LANES + i];

            sum = c == 0 ? d * d : sum + d * d;
        }
        expected.column[i] += sum - expected.square[i];
        expected.square[i] = sum;
    }
}

static int slide(const struct els_scan_row *row)
{
    int found = 0;

    enter(row);
    for (int lane = 0; lane < LANES; lane++) {
        double sum = 0;

        for (int b = 0; b < row->width - 1; b++)
            sum += expected.column[b * LANES + lane];
        for (int b = 0; b < row->count; b++) {
            double d;

            sum += expected.column[(b + row->width - 1) * LANES + lane];
            d = sum + given.apart[b * LANES + lane];
            expected.distance[b * LANES + lane] = d;
            found |= d < given.limit[b] ? ELS_SCAN_HIT : 0;
            found |= d < given.near[b] ? ELS_SCAN_NEAR : 0;
            sum -= expected.column[b * LANES + lane];
        }
    }
    return found;
}

START_TEST(test_rows_enter_and_slide)
{
    const struct els_scan_loops *loops;

    for (int i = 0; (loops = els_scan_loops_at(i)); i++) {
        uint64_t state = 5;
        int seen = 0;

        for (int round = 0; round < ROUNDS; round++) {
            struct els_scan_row row = draw(&state);
            int found;

            loops->enter(&row);
            enter(&row);
            ck_assert_mem_eq(&made, &expected, sizeof(made));
            found = loops->slide(&row);
            ck_assert_int_eq(found, slide(&row));
            ck_assert_mem_eq(&made, &expected, sizeof(made));
            seen |= 1 << found;
        }
        ck_assert_int_eq(seen, 15); /* neither, either, both */
    }
}
END_TEST

/* Widths agree to the byte, and with e^z within 1e-11. */
START_TEST(test_weights_are_added)
{
    const struct els_scan_loops *loops;
    struct sums first;

    for (int i = 0; (loops = els_scan_loops_at(i)); i++) {
        uint64_t state = 6;

        for (int round = 0; round < ROUNDS; round++) {
            struct els_scan_row row = draw(&state);
            double inverse = 1 + 5 * uniform(&state), least[MOST], near[MOST];

            for (int b = 0; b < MOST; b++) {
                least[b] = uniform(&state);
                near[b] = least[b] + 60 / inverse;
            }
            for (int k = 0; k < MOST * LANES; k++)
                made.distance[k] =
                    uniform(&state) < 0.1 ? INFINITY : least[k / LANES] + 20 * uniform(&state);
            loops->add_weights(made.s, made.u, least, near, made.distance, row.count, inverse);
            for (int k = 0; k < MOST * LANES; k++) {
                double z = (least[k / LANES] - fmin(made.distance[k], near[k / LANES])) * inverse;
                double w = k < row.count * LANES ? exp(z) : 0;

                ck_assert_double_eq_tol(made.s[k], expected.s[k] + w, 1e-11);
                ck_assert_double_eq_tol(made.u[k], expected.u[k] + w * z, 1e-11);
            }
        }
        if (i == 0)
            first = made;
        ck_assert_mem_eq(&made, &first, sizeof(made));
    }
}
END_TEST

START_TEST(test_below_least_is_seen)
{
    const struct els_scan_loops *loops;

    for (int i = 0; (loops = els_scan_loops_at(i)); i++)
        for (int k = 0; k < MOST * LANES; k++) {
            double least[MOST];

            for (int b = 0; b < MOST; b++)
                least[b] = b;
            for (int n = 0; n < MOST * LANES; n++)
                made.distance[n] = n / LANES;
            ck_assert_int_eq(loops->any_below(made.distance, least, MOST), 0);
            made.distance[k] -= 1e-9;
            ck_assert_int_eq(loops->any_below(made.distance, least, MOST), 1);
            ck_assert_int_eq(loops->any_below(made.distance, least, k / LANES), 0);
        }
}
END_TEST

START_TEST(test_translates_are_added)
{
    const struct els_scan_loops *loops;

    for (int i = 0; (loops = els_scan_loops_at(i)); i++) {
        uint64_t state = 7;
        int below = 0;

        for (int round = 0; round < ROUNDS; round++) {
            int n = 1 + (int)(30 * uniform(&state)), any = 0;
            double bound = n * uniform(&state) / 3;

            draw(&state);
            memset(made.distance, 0, sizeof(made.distance));
            memset(expected.distance, 0, sizeof(expected.distance));
            made.distance[LANES + 3] = expected.distance[LANES + 3] = INFINITY;
            for (int k = 0; k < ELS_SCAN_ABREAST * LANES; k++) {
                for (int j = 0; j < n; j++) {
                    double d = given.x[j] - given.y[j * LANES + k];

                    expected.distance[k] += d * d;
                }
                any |= expected.distance[k] < bound;
            }
            ck_assert_int_eq(loops->add_translates(made.distance, given.x, given.y, n, bound), any);
            ck_assert_mem_eq(&made, &expected, sizeof(made));
            below += any;
        }
        ck_assert_int_gt(below, ROUNDS / 5);
        ck_assert_int_lt(below, ROUNDS);
    }
}
END_TEST

UNIT_MAIN("scan", test_rows_enter_and_slide, test_weights_are_added, test_below_least_is_seen,
          test_translates_are_added)
