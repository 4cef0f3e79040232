/*
 * Calibration: the curves against the plain loop and sums written out here, and the schedules against exhaustive
 * search on made-up curves.
 *
 * Tolerance of a cosine and of l2 divided by the norms: 1e-4, what the engine's kernels allow x̂0 to differ by
 * (test_engine.c); measured 2e-6.
 */
#include <math.h>
#include <string.h>

#include "core/analysis/calibrate_internal.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

enum { SEEDS = 3, TIMES = 4, SCALES = 3, VALUES = 2 * 6 * 7, ALL = SEEDS * TIMES * VALUES };

static uint64_t step(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static struct els_bank *random_bank(int n)
{
    _cleanup_(els_freep) uint8_t *pixels = els_alloc_array((size_t)n, VALUES);
    struct els_bank_parts parts = {
        .name = "random", .shape = {2, 6, 7}, .num_images = n, .dtype = ELS_U8, .images = pixels};
    struct els_bank *bank = NULL;
    uint64_t state = 4;

    for (int i = 0; i < n * VALUES; i++)
        pixels[i] = (uint8_t)step(&state);
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static float xt[ALL], eps[ALL];
static const double times[TIMES] = {1.0, 0.6, 0.25, 0.05};

static struct els_calibration_spec random_spec(struct els_bank *bank)
{
    struct els_calibration_spec spec;
    struct els_noise g;

    els_noise_init(&g, ELS_NOISE_NUMPY, 5);
    els_noise_randn(&g, xt, ALL);
    els_noise_randn(&g, eps, ALL);
    els_calibration_spec_init(&spec);
    spec.bank = bank;
    spec.num_seeds = SEEDS;
    spec.num_t = TIMES;
    spec.t = times;
    spec.xt = xt;
    spec.eps = eps;
    spec.num_p = SCALES;
    memcpy(spec.p, (const int[]){3, 7, 5}, 3 * sizeof(int));
    return spec;
}

static void run(struct els_calibration *c, struct els_pool *pool)
{
    while (els_calibration_next(c) < els_calibration_num_steps(c))
        ck_assert_int_eq(els_calibration_step(c, pool, NULL, NULL), 0);
}

/* The plain loop's ε of one seed, time and scale. */
static void plain_epsilon(double out[VALUES], const struct els_calibration_spec *spec, int seed,
                          int time, int p)
{
    double alpha_bar = els_schedule_alpha_bar(spec->noise_schedule, spec->t[time]);
    double beta = els_schedule_beta(spec->noise_schedule, spec->t[time]);
    const float *x = spec->xt + (seed * TIMES + time) * VALUES;
    int64_t images[20];
    float x0[VALUES];
    struct els_evaluation e = {.bank = spec->bank,
                               .images = images,
                               .num_images = els_bank_info(spec->bank)->num_images,
                               .machine = spec->machine,
                               .candidates = spec->candidates,
                               .num_p = 1,
                               .p = &p,
                               .alpha_bar = alpha_bar,
                               .beta = beta,
                               .batch = 1,
                               .x = x};

    for (int i = 0; i < 20; i++)
        images[i] = i;
    ck_assert_int_eq(els_evaluate_plain(&e, NULL, &(struct els_answer){.x0 = x0}, NULL), 0);
    for (int i = 0; i < VALUES; i++)
        out[i] = ((double)x[i] - sqrt(alpha_bar) * (double)x0[i]) / sqrt(beta);
}

static void check_curves(const struct els_calibration *c, const struct els_calibration_spec *spec,
                         const double *f, double *worst)
{
    for (int s = 0; s < SEEDS; s++)
        for (int t = 0; t < TIMES; t++)
            for (int k = 0; k < SCALES; k++) {
                int at = (s * TIMES + t) * SCALES + k;
                const double *network = f + (s * TIMES + t) * VALUES;
                double g[VALUES], ff = 0, gg = 0, fg = 0, rest = 0;

                plain_epsilon(g, spec, s, t, spec->p[k]);
                for (int i = 0; i < VALUES; i++) {
                    ff += network[i] * network[i];
                    gg += g[i] * g[i];
                    fg += network[i] * g[i];
                    rest += (network[i] - g[i]) * (network[i] - g[i]);
                }
                *worst = fmax(*worst, fabs(els_calibration_cosine(c)[at] - fg / sqrt(ff * gg)));
                *worst = fmax(*worst, fabs(els_calibration_l2(c)[at] - sqrt(rest)) / sqrt(ff + gg));
            }
}

START_TEST(test_curves_equal_plain_loop)
{
    struct els_bank *bank = random_bank(20);
    struct els_calibration_spec spec = random_spec(bank);
    static double f[ALL];
    static float x0[ALL];
    double worst = 0;

    for (int machine = ELS_MACHINE_LS; machine <= ELS_MACHINE_BBELS; machine++)
        for (int as_x0 = 0; as_x0 < 2; as_x0++) {
            struct els_calibration *c = NULL;

            spec.machine = (enum els_machine)machine;
            spec.p[1] = machine == ELS_MACHINE_ELS ? 1 : 7;
            for (int i = 0; i < ALL; i++) {
                double t = times[i / VALUES % TIMES];

                /* The same numbers read as x̂0. */
                x0[i] = eps[i];
                f[i] = !as_x0 ? (double)eps[i]
                              : ((double)xt[i] -
                                 sqrt(els_schedule_alpha_bar(ELS_COSINE, t)) * (double)x0[i]) /
                                    sqrt(els_schedule_beta(ELS_COSINE, t));
            }
            spec.eps = as_x0 ? NULL : eps;
            spec.x0 = as_x0 ? x0 : NULL;
            ck_assert_int_eq(els_calibration_new(&c, &spec, NULL), 0);
            run(c, NULL);
            check_curves(c, &spec, f, &worst);
            els_calibration_free(c);
        }
    printf("cosine and relative l2 within %.2g (allowed 1e-4)\n", worst);
    ck_assert_double_le(worst, 1e-4);
    els_bank_unref(bank);
}
END_TEST

/* The network that is the machine itself at known scales gets these scales back, by every metric and fit. */
START_TEST(test_own_scales_are_found)
{
    static const int truth[TIMES] = {7, 5, 5, 3};
    struct els_bank *bank = random_bank(20);
    struct els_calibration_spec spec = random_spec(bank);
    struct els_calibration *c = NULL;
    struct els_pool *pool = NULL;

    for (int s = 0; s < SEEDS; s++)
        for (int t = 0; t < TIMES; t++) {
            double g[VALUES];

            plain_epsilon(g, &spec, s, t, truth[t]);
            for (int i = 0; i < VALUES; i++)
                eps[(s * TIMES + t) * VALUES + i] = (float)g[i];
        }
    ck_assert_int_eq(els_pool_new(&pool, 3), 0);
    ck_assert_int_eq(els_calibration_new(&c, &spec, NULL), 0);
    run(c, pool);
    for (int metric = 0; metric < ELS_METRIC_COUNT; metric++)
        for (int fit = 0; fit < ELS_FIT_COUNT; fit++) {
            struct els_scales scales = {0};

            ck_assert_int_eq(els_calibration_scales(&scales, c, (enum els_calibration_metric)metric,
                                                    (enum els_calibration_fit)fit, NULL),
                             0);
            ck_assert_int_eq(scales.n, TIMES);
            for (int t = 0; t < TIMES; t++)
                ck_assert_int_eq(els_scales_at(&scales, times[t]), truth[t]);
            els_scales_deinit(&scales);
        }
    els_calibration_free(c);
    els_pool_free(pool);
    els_bank_unref(bank);
}
END_TEST

/* ---- schedules on made-up curves ---- */

static double score_of(const struct els_calibration *c, enum els_calibration_metric metric, int s,
                       int t, int k)
{
    int at = (s * c->spec.num_t + t) * c->spec.num_p + k;

    return metric == ELS_METRIC_COSINE ? c->cosine[at] : -c->l2[at];
}

static int by_int(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void check_votes(const struct els_calibration *c, enum els_calibration_metric metric)
{
    struct els_scales median = {0}, mode = {0};

    ck_assert_int_eq(els_calibration_scales(&median, c, metric, ELS_FIT_MEDIAN, NULL), 0);
    ck_assert_int_eq(els_calibration_scales(&mode, c, metric, ELS_FIT_MODE, NULL), 0);
    for (int t = 0; t < c->spec.num_t; t++) {
        int best[16], most = 0, frequent = 0, n = (int)c->spec.num_seeds;

        for (int s = 0; s < n; s++) {
            int k = 0;

            for (int i = 1; i < c->spec.num_p; i++) {
                double gain = score_of(c, metric, s, t, i) - score_of(c, metric, s, t, k);

                k = gain > 0 || (gain == 0 && c->spec.p[i] < c->spec.p[k]) ? i : k;
            }
            best[s] = c->spec.p[k];
        }
        qsort(best, (size_t)n, sizeof(*best), by_int);
        for (int s = 0; s < n; s++) {
            int times_seen = 0;

            for (int other = 0; other < n; other++)
                times_seen += best[other] == best[s];
            if (times_seen > most) {
                most = times_seen;
                frequent = best[s];
            }
        }
        ck_assert_int_eq(els_scales_at(&median, c->spec.t[t]), best[(n - 1) / 2]);
        ck_assert_int_eq(els_scales_at(&mode, c->spec.t[t]), frequent);
    }
    els_scales_deinit(&median);
    els_scales_deinit(&mode);
}

/* Sum of mean scores of a schedule, or −∞ when it falls as t grows. times[] descends. */
static double worth(const struct els_calibration *c, enum els_calibration_metric metric,
                    const int *k)
{
    double sum = 0;

    for (int t = 0; t < TIMES; t++) {
        if (t > 0 && c->spec.p[k[t]] > c->spec.p[k[t - 1]])
            return -INFINITY;
        for (int s = 0; s < c->spec.num_seeds; s++)
            sum += score_of(c, metric, s, t, k[t]) / (double)c->spec.num_seeds;
    }
    return sum;
}

static void check_monotone(const struct els_calibration *c, enum els_calibration_metric metric)
{
    struct els_scales scales = {0};
    double best = -INFINITY;
    int k[TIMES], found[TIMES];

    for (int code = 0; code < SCALES * SCALES * SCALES * SCALES; code++) {
        for (int t = 0, rest = code; t < TIMES; t++, rest /= SCALES)
            k[t] = rest % SCALES;
        best = fmax(best, worth(c, metric, k));
    }
    ck_assert_int_eq(els_calibration_scales(&scales, c, metric, ELS_FIT_MONOTONE, NULL), 0);
    for (int t = 0; t < TIMES; t++)
        for (int i = 0; i < SCALES; i++)
            if (c->spec.p[i] == els_scales_at(&scales, times[t]))
                found[t] = i;
    ck_assert_double_eq_tol(worth(c, metric, found), best, 1e-12);
    els_scales_deinit(&scales);
}

START_TEST(test_schedules_equal_exhaustive_search)
{
    struct els_bank *bank = random_bank(2);
    struct els_calibration_spec spec = random_spec(bank);
    uint64_t state = 77;

    for (int round = 0; round < 300; round++) {
        struct els_calibration *c = NULL;
        int many;

        spec.num_seeds = 1 + (int64_t)(step(&state) % SEEDS);
        ck_assert_int_eq(els_calibration_new(&c, &spec, NULL), 0);
        many = (int)spec.num_seeds * TIMES * SCALES;
        /* Few values: many ties. */
        for (int i = 0; i < many; i++) {
            c->cosine[i] = (double)(step(&state) % 5) / 4;
            c->l2[i] = (double)(step(&state) % 5) / 4;
        }
        c->next = TIMES;
        for (int metric = 0; metric < ELS_METRIC_COUNT; metric++) {
            check_votes(c, (enum els_calibration_metric)metric);
            check_monotone(c, (enum els_calibration_metric)metric);
        }
        els_calibration_free(c);
    }
    els_bank_unref(bank);
}
END_TEST

/* ---- faults ---- */

static void refused(const struct els_calibration_spec *spec, const char *field)
{
    struct els_calibration *c = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(els_calibration_new(&c, spec, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, field);
    ck_assert_ptr_null(c);
}

START_TEST(test_faults_name_the_tensor)
{
    struct els_bank *bank = random_bank(2);
    const struct els_calibration_spec good = random_spec(bank);
    struct els_calibration_spec spec = good;
    static double t[TIMES];

    memcpy(t, times, sizeof(t));
    spec.t = t;
    t[2] = NAN;
    refused(&spec, "t");
    t[2] = t[0];
    refused(&spec, "t");
    t[2] = 0; /* no noise */
    refused(&spec, "t");
    spec = good;
    spec.p[1] = 4;
    refused(&spec, "p");
    spec.p[1] = 3;
    refused(&spec, "p");
    spec = good;
    spec.machine = ELS_MACHINE_IS;
    refused(&spec, "machine");
    spec = good;
    spec.x0 = eps;
    refused(&spec, "eps");
    spec.x0 = spec.eps = NULL;
    refused(&spec, "eps");
    spec = good;
    spec.alpha_bar = (const double[]){0.1, 0.2, 1.5, 0.3};
    refused(&spec, "alpha_bar");
    spec = good;
    xt[5] = INFINITY;
    refused(&spec, "xt");
    xt[5] = 0;
    eps[ALL - 1] = NAN;
    refused(&spec, "eps");
    spec.eps = NULL;
    spec.x0 = eps;
    refused(&spec, "x0");
    els_bank_unref(bank);
}
END_TEST

static int stop_at_once(void *user, double done)
{
    return done >= 0 && done <= 1 && ++*(int *)user;
}

START_TEST(test_watch_cancels_and_the_step_runs_again)
{
    struct els_bank *bank = random_bank(20);
    struct els_calibration_spec spec = random_spec(bank);
    struct els_calibration *c = NULL;
    struct els_scales scales = {0};
    int calls = 0;

    ck_assert_int_eq(els_calibration_new(&c, &spec, NULL), 0);
    ck_assert_int_eq(els_calibration_step(c, NULL, &(struct els_progress){stop_at_once, &calls}, NULL),
                     ELS_ECANCELLED);
    ck_assert_int_gt(calls, 0);
    ck_assert_int_eq(els_calibration_next(c), 0);
    ck_assert_int_eq(els_calibration_scales(&scales, c, ELS_METRIC_L2, ELS_FIT_MODE, NULL),
                     ELS_EINVAL);
    run(c, NULL);
    ck_assert_int_eq(els_calibration_step(c, NULL, NULL, NULL), ELS_EINVAL);
    els_calibration_free(c);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_default_scales_and_names)
{
    int p[ELS_MAX_P_COUNT];
    enum els_calibration_metric metric;
    enum els_calibration_fit fit;

    ck_assert_int_eq(els_calibration_default_p(p, (struct els_shape){1, 32, 40}), 15);
    ck_assert_int_eq(p[0], 3);
    ck_assert_int_eq(p[14], 31);
    ck_assert_int_eq(els_calibration_default_p(p, (struct els_shape){1, 512, 512}),
                     ELS_MAX_P_COUNT);
    ck_assert_int_eq(els_calibration_default_p(p, (struct els_shape){1, 2, 9}), 1);
    ck_assert_int_eq(p[0], 1);
    ck_assert_int_eq(els_calibration_metric_parse("l2", &metric), 0);
    ck_assert_int_eq(metric, ELS_METRIC_L2);
    ck_assert_int_eq(els_calibration_fit_parse("monotone", &fit), 0);
    ck_assert_int_eq(fit, ELS_FIT_MONOTONE);
    ck_assert_int_eq(els_calibration_fit_parse("mean", &fit), ELS_ENOENT);
}
END_TEST

UNIT_MAIN("calibrate", test_curves_equal_plain_loop, test_own_scales_are_found,
          test_schedules_equal_exhaustive_search, test_faults_name_the_tensor,
          test_watch_cancels_and_the_step_runs_again, test_default_scales_and_names)
