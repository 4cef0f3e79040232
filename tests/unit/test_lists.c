/*
 * Who shares candidates with whom along an axis, and the lists of candidates that follow from it:
 * both against the sources of each query, one by one.
 */
#include <math.h>
#include <string.h>

#include "core/engine/pass_internal.h"
#include "core/kernel/lists.h"
#include "els/mem.h"
#include "unit.h"

enum { MOST_N = 13, MOST_R = 7, MOST_VALUES = 27, IMAGES = 16, MOST_PATCHES = IMAGES * 144 };

static const enum els_machine machines[] = {ELS_MACHINE_LS, ELS_MACHINE_ELS, ELS_MACHINE_BBELS};

/* Queries first … first + queries − 1 take source … source + sources − 1, and no neighbour does. */
static void check_classes(enum els_machine machine, enum els_candidates candidates, int n, int r)
{
    struct els_class class[MOST_N];
    int count = els_classes_of(machine, candidates, n, r, class, MOST_N), query = 0;

    ck_assert_int_ge(count, 1);
    for (int k = 0; k < count; k++) {
        const struct els_class *c = &class[k];

        ck_assert_int_eq(c->query, query);
        ck_assert_int_ge(c->queries, 1);
        for (; query < c->query + c->queries; query++) {
            int from, to;

            els_sources_of(machine, candidates, n, r, query, &from, &to);
            ck_assert_int_eq(c->source, from);
            ck_assert_int_eq(c->sources, to - from);
        }
        ck_assert(k == 0 || c->source != class[k - 1].source || c->sources != class[k - 1].sources);
    }
    ck_assert_int_eq(query, n);
    /* Too little room is told, and nothing is written past it. */
    memset(class, 0x5a, sizeof(class));
    ck_assert_int_eq(els_classes_of(machine, candidates, n, r, class, count - 1), count);
    ck_assert_int_eq(class[count - 1].query, 0x5a5a5a5a);
}

/* Every pair of a query and one of its sources, once. */
static void check_runs(enum els_machine machine, enum els_candidates candidates, int n, int r)
{
    int seen[MOST_N][MOST_N] = {{0}};
    struct els_runs runs = {0};

    ck_assert_int_eq(els_runs_new(&runs, machine, candidates, n, r, 0, n), 0);
    for (int k = 0; k < runs.count; k++) {
        const struct els_run *run = &runs.run[k];

        ck_assert(k == 0 || run->source - run->query >= run[-1].source - run[-1].query);
        for (int i = 0; i < run->count; i++)
            seen[run->query + i][run->source + i]++;
    }
    els_runs_deinit(&runs);
    for (int i = 0; i < n; i++) {
        int from, to;

        els_sources_of(machine, candidates, n, r, i, &from, &to);
        for (int k = 0; k < n; k++)
            ck_assert_int_eq(seen[i][k], k >= from && k < to);
    }
}

START_TEST(test_classes_and_runs_are_the_sources_of_each_query)
{
    for (int m = 0; m < 3; m++)
        for (int n = 1; n <= MOST_N; n++)
            for (int r = 0; r <= MOST_R; r++)
                for (int valid = 0; valid < 2; valid++) {
                    enum els_candidates candidates =
                        valid ? ELS_CANDIDATES_VALID : ELS_CANDIDATES_WRAPPED;
                    struct els_shape shape = {1, n, n};

                    if (els_machine_check_p(machines[m], shape, 2 * r + 1, NULL) < 0 ||
                        (valid && 2 * r + 1 > n))
                        continue;
                    check_classes(machines[m], candidates, n, r);
                    check_runs(machines[m], candidates, n, r);
                }
}
END_TEST

/* ---- lists ---- */

struct patch {
    int8_t value[MOST_VALUES];
    int count;
};

struct patches {
    struct patch *patch;
    int used;
};

static void add_patch(struct patches *to, const int8_t *value, int count)
{
    for (int k = 0; k < to->used; k++)
        if (memcmp(to->patch[k].value, value, MOST_VALUES) == 0) {
            to->patch[k].count += count;
            return;
        }
    ck_assert_int_lt(to->used, MOST_PATCHES);
    memcpy(to->patch[to->used].value, value, MOST_VALUES);
    to->patch[to->used++].count = count;
}

/* u − 128 around (k, l) of an image, the window's rows of one channel after the other. */
static void cut_patch(const struct els_sweep *s, int64_t image, int k, int l, int8_t *value)
{
    const uint8_t *u8 = els_bank_images(s->bank);
    int h = s->shape.h, w = s->shape.w;

    memset(value, 0, MOST_VALUES);
    for (int c = 0; c < s->shape.c; c++)
        for (int t = k - s->rh; t <= k + s->rh; t++)
            for (int b = l - s->rw; b <= l + s->rw; b++, value++) {
                int row = s->wraps ? (t + h) % h : t, column = s->wraps ? (b + w) % w : b;

                if (row >= 0 && row < h && column >= 0 && column < w)
                    *value = (int8_t)(u8[((image * s->shape.c + c) * h + row) * w + column] - 128);
            }
}

/* The candidates of one class from their definition, and from its list. */
static void expected_patches(const struct els_sweep *s, const struct els_class *rows,
                             const struct els_class *cols, const int64_t *images, int count,
                             struct patches *out)
{
    int8_t value[MOST_VALUES];

    for (int i = 0; i < count; i++)
        for (int k = rows->source; k < rows->source + rows->sources; k++)
            for (int l = cols->source; l < cols->source + cols->sources; l++) {
                cut_patch(s, images[i], k, l, value);
                add_patch(out, value, 1);
            }
}

static void listed_patches(const struct els_sweep *s, const struct els_layout *o,
                           const struct els_lists *lists, const struct els_class_at *c,
                           struct patches *out)
{
    for (int n = c->first_vector * ELS_MAX_LANES;
         n < (c->first_vector + lists->vectors[c->index]) * ELS_MAX_LANES; n++) {
        int8_t value[MOST_VALUES] = {0}, *to = value;
        int total = 0, square = 0;

        if (lists->square[n] < 0)
            continue; /* a copy */
        for (int p = 0; p < s->shape.c; p++)
            for (int t = 0; t <= 2 * s->rh; t++)
                for (int b = 0; b <= 2 * s->rw; b++, to++) {
                    *to = lists->plane[lists->position[n] +
                                       (p * o->plane_h + t) * o->plane_w + b];
                    total += *to;
                    square += (2 * *to + 1) * (2 * *to + 1);
                }
        ck_assert_int_eq(lists->total[n], total);
        /* What lies outside the image has no square of its own. */
        ck_assert_int_le(lists->square[n], square);
        ck_assert(!s->wraps || lists->square[n] == square);
        add_patch(out, value, (int)lrintf(expf(lists->log_count[n])));
    }
}

static int by_value(const void *a, const void *b)
{
    return memcmp(((const struct patch *)a)->value, ((const struct patch *)b)->value, MOST_VALUES);
}

static void check_class(const struct els_sweep *s, const struct els_layout *o,
                        const struct els_lists *lists, const struct els_class_at *c,
                        const int64_t *images, int count)
{
    static struct patch is[MOST_PATCHES], should[MOST_PATCHES];
    struct patches listed = {is, 0}, expected = {should, 0};

    listed_patches(s, o, lists, c, &listed);
    expected_patches(s, &o->rows[c->row], &o->cols[c->col], images, count, &expected);
    ck_assert_int_eq(listed.used, expected.used);
    qsort(is, (size_t)listed.used, sizeof(*is), by_value);
    qsort(should, (size_t)expected.used, sizeof(*should), by_value);
    for (int k = 0; k < listed.used; k++) {
        ck_assert_mem_eq(is[k].value, should[k].value, MOST_VALUES);
        ck_assert_int_eq(is[k].count, should[k].count);
    }
}

/* Images of few grey levels: many patches are flat, some equal. */
static struct els_bank *new_bank(struct els_shape shape)
{
    static uint8_t u8[IMAGES * 4 * 144];
    struct els_bank_parts parts = {.name = "lists", .shape = shape, .num_images = IMAGES,
                                   .dtype = ELS_U8, .images = u8};
    struct els_bank *bank = NULL;
    uint64_t state = 7;

    for (size_t k = 0; k < IMAGES * els_shape_values(shape); k++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        u8[k] = (uint8_t)(state >> 60 ? 0 : (state >> 50) % 3 * 100);
    }
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static void check_lists(enum els_machine machine, struct els_shape shape, int p, int count)
{
    struct els_bank *bank = new_bank(shape);
    int64_t images[IMAGES];
    float x[4 * 144] = {0};
    struct els_evaluation e = {.bank = bank, .images = images, .num_images = count,
                               .machine = machine, .candidates = ELS_CANDIDATES_WRAPPED,
                               .num_p = 1, .p = &p, .alpha_bar = 0.5, .beta = 0.5, .batch = 1,
                               .x = x};
    struct els_pass *pass = NULL;
    const struct els_sweep *s;
    struct els_layout o;
    struct els_lists lists;
    struct els_class_at c;
    void *block;
    int classes = 0;

    for (int i = 0; i < count; i++)
        images[i] = IMAGES - 1 - i;
    ck_assert_int_eq(els_pass_new(&pass, &e, 0), 0);
    s = &pass->sweep[0];
    ck_assert_int_eq(els_layout_of(s, &o), 0);
    block = els_alloc_aligned(els_lists_bytes(&o), 1);
    ck_assert_ptr_nonnull(block);
    els_lists_at(&o, block, &lists);
    els_lists_fill(s, &o, images, count, &lists);
    for (els_first(&o, &c); els_more(&o, &c); els_next(&o, &c), classes++) {
        ck_assert_int_le(lists.vectors[c.index], c.vectors);
        ck_assert_int_eq(lists.vectors[c.index] % 2, 0);
        check_class(s, &o, &lists, &c, images, count);
    }
    ck_assert_int_eq(classes, o.num_rows * o.num_cols);
    free(block);
    els_pass_free(pass);
    els_bank_unref(bank);
}

START_TEST(test_lists_hold_every_candidate_with_its_number)
{
    static const struct els_shape shapes[] = {{1, 12, 12}, {3, 5, 7}, {2, 3, 12}, {1, 1, 4}};

    for (int m = 0; m < 3; m++)
        for (size_t k = 0; k < sizeof(shapes) / sizeof(*shapes); k++)
            for (int count = 1; count <= IMAGES; count += 5)
                if (els_machine_check_p(machines[m], shapes[k], 3, NULL) == 0)
                    check_lists(machines[m], shapes[k], 3, count);
    check_lists(ELS_MACHINE_BBELS, shapes[0], 1, IMAGES);
    check_lists(ELS_MACHINE_BBELS, shapes[0], 5, IMAGES);
}
END_TEST

UNIT_MAIN("lists", test_classes_and_runs_are_the_sources_of_each_query,
          test_lists_hold_every_candidate_with_its_number)
