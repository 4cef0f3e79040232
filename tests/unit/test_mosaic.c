/*
 * Mosaics against a plain loop of this file's own, which lists every candidate of every pixel from the definitions and
 * sorts: all machines, 1 to 4 channels, non-square shapes, windows beyond the image, u8 and F32, banks with equal
 * images and black patches so that there are many ties. Image, row and column must be equal for every rank.
 *
 * Weights and entropy: within 1e-9 (measured 4e-10, at β = 1e-4).
 */
#include <math.h>
#include <string.h>

#include "els/mem.h"
#include "els/mosaic.h"
#include "els/noise.h"
#include "els/sampler.h"
#include "unit.h"

#define TOLERANCE 1e-9

struct problem {
    struct els_shape shape;
    int64_t num_images;
    enum els_dtype dtype;
    enum els_machine machine;
    enum els_candidates candidates;
    int p, top;
    double beta;
};

struct listed {
    double distance;
    int64_t image;
    int row, column;       /* as the tie is decided */
    int at_row, at_column; /* as the mosaic tells */
};

static uint64_t step(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Few grey levels, mostly black; every third image is a copy of an earlier one, and the last of a few is all black. */
static struct els_bank *bank_with_ties(const struct problem *q, uint64_t *state)
{
    size_t values = els_shape_values(q->shape), count = (size_t)q->num_images * values;
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(count, 1);
    _cleanup_(els_freep) float *f32 = els_alloc_array(count, sizeof(*f32));
    struct els_bank_parts parts = {
        .name = "ties", .shape = q->shape, .num_images = q->num_images, .dtype = q->dtype};
    struct els_bank *bank = NULL;

    for (size_t n = 0; n < (size_t)q->num_images; n++) {
        for (size_t i = 0; i < values; i++)
            u8[n * values + i] = step(state) % 5 < 3 ? 0 : (uint8_t)(step(state) % 4 * 85);
        if (n % 3 == 2)
            memcpy(u8 + n * values, u8 + step(state) % n * values, values);
        if (n % 7 == 5)
            memset(u8 + n * values, 0, values);
    }
    for (size_t i = 0; i < count; i++)
        f32[i] = ((float)u8[i] - 127.5f) / 127.5f;
    parts.images = q->dtype == ELS_U8 ? (const void *)u8 : f32;
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static int wrap(int i, int n)
{
    return ((i % n) + n) % n;
}

static double bank_value(const struct els_bank *bank, int64_t image, int c, int i, int j)
{
    const struct els_bank_info *info = els_bank_info(bank);
    size_t at =
        (((size_t)image * (size_t)info->shape.c + (size_t)c) * (size_t)info->shape.h + (size_t)i) *
            (size_t)info->shape.w +
        (size_t)j;

    return info->dtype == ELS_U8
               ? (((const uint8_t *)els_bank_images(bank))[at] / 255.0 - 0.5) / 0.5
               : (double)((const float *)els_bank_images(bank))[at];
}

/* Rows (or columns) of a window's centre: is `k` allowed for query `i` of n? (DESIGN's table, eq. 7–10, 38, 41.) */
static int allowed(const struct problem *q, int n, int i, int k)
{
    int r = q->p / 2;

    switch (q->machine) {
    case ELS_MACHINE_LS:
        return k == i;
    case ELS_MACHINE_ELS:
        return q->candidates == ELS_CANDIDATES_WRAPPED || (k - r >= 0 && k + r < n);
    default:
        return r <= i && i < n - r ? r <= k && k < n - r : k == i;
    }
}

static double window(const struct problem *q, const struct els_bank *bank, const float *x,
                     int64_t image, int i, int j, int k, int l)
{
    int h = q->shape.h, w = q->shape.w, r = q->p / 2, around = q->machine == ELS_MACHINE_ELS;
    double a = sqrt(1 - q->beta), sum = 0;

    for (int u = -r; u <= r; u++)
        for (int v = -r; v <= r; v++)
            for (int c = 0; c < q->shape.c; c++) {
                double d;

                if (!around && (i + u < 0 || i + u >= h || j + v < 0 || j + v >= w))
                    continue;
                d = (double)x[(c * h + wrap(i + u, h)) * w + wrap(j + v, w)] -
                    a * bank_value(bank, image, c, wrap(k + u, h), wrap(l + v, w));
                sum += d * d;
            }
    return sum;
}

static double whole(const struct problem *q, const struct els_bank *bank, const float *x,
                    int64_t image, int dy, int dx)
{
    int h = q->shape.h, w = q->shape.w;
    double a = sqrt(1 - q->beta), sum = 0;

    for (int c = 0; c < q->shape.c; c++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                double d = (double)x[(c * h + i) * w + j] -
                           a * bank_value(bank, image, c, wrap(i + dy, h), wrap(j + dx, w));

                sum += d * d;
            }
    return sum;
}

/* All candidates of pixel (i,j); returns how many. */
static int list_candidates(const struct problem *q, const struct els_bank *bank, const float *x,
                           int i, int j, struct listed *list)
{
    int h = q->shape.h, w = q->shape.w, n = 0;

    for (int64_t image = 0; image < q->num_images; image++)
        for (int k = 0; k < h; k++)
            for (int l = 0; l < w; l++) {
                struct listed *c = &list[n];

                *c = (struct listed){
                    .image = image, .row = k, .column = l, .at_row = k, .at_column = l};
                if (els_machine_uses_p(q->machine)) {
                    if (!allowed(q, h, i, k) || !allowed(q, w, j, l))
                        continue;
                    c->distance = window(q, bank, x, image, i, j, k, l);
                } else {
                    if (q->machine == ELS_MACHINE_IS && (k || l))
                        continue;
                    c->distance = whole(q, bank, x, image, k, l);
                    c->at_row = (i + k) % h;
                    c->at_column = (j + l) % w;
                }
                n++;
            }
    return n;
}

static int by_distance(const void *a, const void *b)
{
    const struct listed *p = a, *q = b;

    if (p->distance != q->distance)
        return p->distance < q->distance ? -1 : 1;
    if (p->image != q->image)
        return p->image < q->image ? -1 : 1;
    return p->row != q->row ? p->row - q->row : p->column - q->column;
}

static struct els_evaluation question(const struct problem *q, const struct els_bank *bank,
                                      const int64_t *images, const float *x)
{
    return (struct els_evaluation){
        .bank = bank,
        .images = images,
        .num_images = q->num_images,
        .machine = q->machine,
        .candidates = q->candidates,
        .num_p = 1,
        .p = &q->p,
        .alpha_bar = 1 - q->beta,
        .beta = q->beta,
        .batch = 1,
        .x = x,
    };
}

/* One pixel; returns the largest difference of a weight or the entropy, and counts ties at the head of the list. */
static double check_pixel(const struct problem *q, const struct els_mosaic *m, int i, int j,
                          const struct listed *list, int n, int *ties)
{
    double sum = 0, entropy = 0, worst;

    for (int c = 0; c < n; c++)
        sum += exp((list[0].distance - list[c].distance) / (2 * q->beta));
    for (int c = 0; c < n; c++) {
        double z = (list[0].distance - list[c].distance) / (2 * q->beta);

        entropy -= z > -700 ? exp(z) / sum * (z - log(sum)) : 0;
    }
    worst = fabs(entropy - m->entropy[i * m->width + j]);
    for (int k = 0; k < q->top; k++) {
        const struct els_candidate *c = els_mosaic_at(m, i, j, k);

        if (k >= n) {
            ck_assert_int_eq(c->image, -1);
            ck_assert_double_eq(c->weight, 0);
            continue;
        }
        ck_assert_msg(c->image == list[k].image && c->row == list[k].at_row &&
                          c->column == list[k].at_column,
                      "%s pixel (%d,%d) rank %d: image %lld (%d,%d), the loop has %lld (%d,%d)",
                      els_machine_name(q->machine), i, j, k, (long long)c->image, c->row, c->column,
                      (long long)list[k].image, list[k].at_row, list[k].at_column);
        worst = fmax(worst, fabs(c->weight -
                                 exp((list[0].distance - list[k].distance) / (2 * q->beta)) / sum));
        *ties += k > 0 && list[k].distance == list[k - 1].distance;
    }
    return worst;
}

/* Components by spreading the smallest number until nothing changes, then numbered in order. */
static void check_regions(const struct problem *q, const struct els_mosaic *m)
{
    int h = m->height, w = m->width, pixels = h * w, changed = 1, next = 0;
    int around = q->machine == ELS_MACHINE_ES ||
                 (q->machine == ELS_MACHINE_ELS && q->candidates == ELS_CANDIDATES_WRAPPED);
    _cleanup_(els_freep) int *mark = els_alloc_array((size_t)pixels, sizeof(*mark));
    _cleanup_(els_freep) int *number = els_alloc_array((size_t)pixels, sizeof(*number));

    for (int at = 0; at < pixels; at++)
        mark[at] = at;
    while (changed) {
        changed = 0;
        for (int at = 0; at < pixels; at++)
            for (int other = 0; other < pixels; other++) {
                int i = at / w, j = at % w, k = other / w, l = other % w;
                const struct els_candidate *a = els_mosaic_at(m, i, j, 0),
                                           *b = els_mosaic_at(m, k, l, 0);
                int down = a->row - i - (b->row - k), right = a->column - j - (b->column - l);

                if (abs(i - k) + abs(j - l) != 1 || a->image != b->image ||
                    (around ? wrap(down, h) || wrap(right, w) : down || right) ||
                    mark[other] <= mark[at])
                    continue;
                mark[other] = mark[at];
                changed = 1;
            }
    }
    for (int at = 0; at < pixels; at++) {
        number[at] = mark[at] == at ? next++ : number[mark[at]];
        ck_assert_int_eq(m->region[at], number[at]);
    }
    ck_assert_int_eq(m->num_regions, next);
}

static double check_mosaic(const struct problem *q, uint64_t *state, int *ties)
{
    size_t values = els_shape_values(q->shape);
    struct els_bank *bank = bank_with_ties(q, state);
    _cleanup_(els_freep) float *x = els_alloc_array(values, sizeof(*x));
    _cleanup_(els_freep) int64_t *images = els_alloc_array((size_t)q->num_images, sizeof(*images));
    _cleanup_(els_freep) struct listed *list =
        els_alloc_array((size_t)q->num_images * (size_t)(q->shape.h * q->shape.w), sizeof(*list));
    struct els_evaluation e = question(q, bank, images, x);
    struct els_mosaic *m = NULL;
    struct els_noise noise;
    double worst = 0;

    for (int64_t i = 0; i < q->num_images; i++)
        images[i] = i;
    els_noise_init(&noise, ELS_NOISE_TORCH, step(state));
    els_noise_randn(&noise, x, values);
    /* Some queries are themselves bank images, with exact hits. */
    if (step(state) % 3 == 0)
        els_bank_image(bank, (int64_t)(step(state) % (uint64_t)q->num_images), x);
    ck_assert_int_eq(els_mosaic_new(&m, &e, q->top, NULL, NULL, NULL), 0);
    for (int i = 0; i < q->shape.h; i++)
        for (int j = 0; j < q->shape.w; j++) {
            int n = list_candidates(q, bank, x, i, j, list);

            qsort(list, (size_t)n, sizeof(*list), by_distance);
            worst = fmax(worst, check_pixel(q, m, i, j, list, n, ties));
        }
    check_regions(q, m);
    els_mosaic_free(m);
    els_bank_unref(bank);
    return worst;
}

static struct problem random_problem(enum els_machine machine, enum els_candidates candidates,
                                     uint64_t *state)
{
    static const double beta[] = {1e-4, 0.02, 0.3, 0.9, 0.9999};
    struct problem q = {
        .shape = {1 + (int)(step(state) % 4), 1 + (int)(step(state) % 8),
                  1 + (int)(step(state) % 8)},
        .num_images = 1 + (int64_t)(step(state) % 20),
        .dtype = step(state) % 4 ? ELS_U8 : ELS_F32,
        .machine = machine,
        .candidates = candidates,
        .top = 1 + (int)(step(state) % 9),
        .beta = beta[step(state) % 5],
    };
    int least = q.shape.h < q.shape.w ? q.shape.h : q.shape.w;
    int most = machine == ELS_MACHINE_ELS ? least : q.shape.h + q.shape.w;

    q.p = 1 + 2 * (int)(step(state) % (uint64_t)((most + 1) / 2));
    return q;
}

static void check_many(enum els_machine machine, enum els_candidates candidates, int rounds)
{
    uint64_t state = 11 + (uint64_t)machine * 2 + candidates;
    double worst = 0;
    int ties = 0;

    for (int round = 0; round < rounds; round++) {
        struct problem q = random_problem(machine, candidates, &state);
        double gap = check_mosaic(&q, &state, &ties);

        ck_assert_msg(gap <= TOLERANCE,
                      "%s round %d: %dx%dx%d, N=%lld, P=%d, beta=%g: a weight differs by %.3g",
                      els_machine_name(machine), round, q.shape.c, q.shape.h, q.shape.w,
                      (long long)q.num_images, q.p, q.beta, gap);
        worst = fmax(worst, gap);
    }
    printf("%s %s: %d mosaics, %d ties, weights and entropy within %.2g (allowed %.0g)\n",
           els_machine_name(machine),
           machine == ELS_MACHINE_ELS ? els_candidates_name(candidates) : "", rounds, ties, worst,
           TOLERANCE);
    ck_assert_int_gt(ties, 100);
}

START_TEST(test_is_equals_plain_loop)
{
    check_many(ELS_MACHINE_IS, 0, 150);
}
END_TEST

START_TEST(test_es_equals_plain_loop)
{
    check_many(ELS_MACHINE_ES, 0, 60);
}
END_TEST

START_TEST(test_ls_equals_plain_loop)
{
    check_many(ELS_MACHINE_LS, 0, 200);
}
END_TEST

START_TEST(test_els_wrapped_equals_plain_loop)
{
    check_many(ELS_MACHINE_ELS, ELS_CANDIDATES_WRAPPED, 100);
}
END_TEST

START_TEST(test_els_valid_equals_plain_loop)
{
    check_many(ELS_MACHINE_ELS, ELS_CANDIDATES_VALID, 100);
}
END_TEST

START_TEST(test_bbels_equals_plain_loop)
{
    check_many(ELS_MACHINE_BBELS, 0, 150);
}
END_TEST

/* Enough candidates for several parts, which are merged; five threads give the same bytes, and what the loop lists. */
START_TEST(test_threads_change_nothing)
{
    enum { H = 20, W = 22, IMAGES = 400, TOP = 7 };
    struct problem q = {.shape = {2, H, W},
                        .num_images = IMAGES,
                        .dtype = ELS_U8,
                        .top = TOP,
                        .beta = 0.05,
                        .p = 3};
    static float x[2 * H * W];
    _cleanup_(els_freep) struct listed *list =
        els_alloc_array((size_t)IMAGES * H * W, sizeof(*list));
    int64_t images[IMAGES];
    uint64_t state = 3;
    struct els_bank *bank = bank_with_ties(&q, &state);
    struct els_pool *pool = NULL;
    struct els_noise noise;

    for (int i = 0; i < IMAGES; i++)
        images[i] = i;
    els_noise_init(&noise, ELS_NOISE_TORCH, 1);
    els_noise_randn(&noise, x, 2 * H * W);
    ck_assert_int_eq(els_pool_new(&pool, 5), 0);
    for (int machine = 0; machine < ELS_MACHINE_COUNT; machine++) {
        struct els_mosaic *one = NULL, *many = NULL;
        struct els_evaluation e;
        int ties = 0;

        q.machine = (enum els_machine)machine;
        e = question(&q, bank, images, x);
        ck_assert_int_eq(els_mosaic_new(&one, &e, TOP, NULL, NULL, NULL), 0);
        ck_assert_int_eq(els_mosaic_new(&many, &e, TOP, pool, NULL, NULL), 0);
        ck_assert_mem_eq(one->candidate, many->candidate, H * W * TOP * sizeof(*one->candidate));
        ck_assert_mem_eq(one->entropy, many->entropy, H * W * sizeof(double));
        for (int at = 0; at < H * W; at += 150) {
            int n = list_candidates(&q, bank, x, at / W, at % W, list);

            qsort(list, (size_t)n, sizeof(*list), by_distance);
            ck_assert_double_le(check_pixel(&q, one, at / W, at % W, list, n, &ties), TOLERANCE);
        }
        els_mosaic_free(one);
        els_mosaic_free(many);
    }
    els_pool_free(pool);
    els_bank_unref(bank);
}
END_TEST

/* The mosaic that a sampler's evaluation gives explains the x̂0 that the step then computes. */
START_TEST(test_mosaic_explains_a_step)
{
    struct problem q = {.shape = {1, 7, 7}, .num_images = 6, .dtype = ELS_U8};
    uint64_t state = 8;
    struct els_sample_spec spec;
    struct els_sampler *sampler = NULL;
    struct els_mosaic *m = NULL;
    struct els_evaluation e;
    double worst = 0;

    els_sample_spec_init(&spec);
    spec.bank = bank_with_ties(&q, &state);
    spec.num_images = 2;
    ck_assert_int_eq(els_scales_constant(&spec.scales, 3, NULL), 0);
    ck_assert_int_eq(els_sampler_new(&sampler, &spec, NULL), 0);
    while (els_sampler_next(sampler) + 1 < els_sampler_num_steps(sampler))
        ck_assert_int_eq(els_sampler_step(sampler, NULL, NULL, NULL), 0);
    e = els_sampler_evaluation(sampler);
    ck_assert_int_eq(els_mosaic_new(&m, &e, 4, NULL, NULL, NULL), ELS_EINVAL); /* two images */
    e.batch = 1;
    e.x += 49;
    ck_assert_int_eq(els_mosaic_new(&m, &e, ELS_MAX_TOP, NULL, NULL, NULL), 0);
    ck_assert_int_eq(els_sampler_step(sampler, NULL, NULL, NULL), 0);
    for (int at = 0; at < 49; at++) {
        double mean = 0, weights = 0;

        for (int k = 0; k < m->top; k++) {
            const struct els_candidate *c = els_mosaic_at(m, at / 7, at % 7, k);

            if (c->image < 0)
                continue;
            mean += c->weight * bank_value(spec.bank, c->image, 0, c->row, c->column);
            weights += c->weight;
        }
        /* What is left out lies within [−1,1]. */
        worst = fmax(worst, fabs(mean - (double)els_sampler_x0(sampler)[49 + at]) - (1 - weights));
    }
    ck_assert_double_le(worst, 1e-5);
    els_mosaic_free(m);
    els_sampler_free(sampler);
    els_scales_deinit(&spec.scales);
    els_bank_unref(spec.bank);
}
END_TEST

static int stop_at_once(void *user, double done)
{
    ck_assert(done >= 0 && done <= 1);
    ++*(int *)user;
    return 1;
}

START_TEST(test_watch_cancels_and_faults_are_named)
{
    struct problem q = {.shape = {1, 5, 5},
                        .num_images = 4,
                        .dtype = ELS_U8,
                        .machine = ELS_MACHINE_BBELS,
                        .beta = 0.5,
                        .p = 3};
    uint64_t state = 8;
    struct els_bank *bank = bank_with_ties(&q, &state);
    int64_t images[4] = {0, 1, 2, 3};
    float x[25] = {0};
    struct els_evaluation e = question(&q, bank, images, x);
    struct els_mosaic *m = NULL;
    struct els_error err = {0};
    int calls = 0, two[2] = {3, 5};

    ck_assert_int_eq(
        els_mosaic_new(&m, &e, 1, NULL, &(struct els_progress){stop_at_once, &calls}, &err),
        ELS_ECANCELLED);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(els_mosaic_new(&m, &e, 0, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "top");
    ck_assert_int_eq(els_mosaic_new(&m, &e, ELS_MAX_TOP + 1, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "top");
    e.num_p = 2;
    e.p = two;
    ck_assert_int_eq(els_mosaic_new(&m, &e, 1, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "p");
    e = question(&q, bank, images, x);
    x[3] = NAN;
    ck_assert_int_eq(els_mosaic_new(&m, &e, 1, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "x");
    ck_assert_ptr_null(m);
    els_bank_unref(bank);
}
END_TEST

UNIT_MAIN("mosaic", test_is_equals_plain_loop, test_es_equals_plain_loop, test_ls_equals_plain_loop,
          test_els_wrapped_equals_plain_loop, test_els_valid_equals_plain_loop,
          test_bbels_equals_plain_loop, test_threads_change_nothing, test_mosaic_explains_a_step,
          test_watch_cancels_and_faults_are_named)
