/*
 * Agreement of images: against numbers that NumPy 1.24 and scikit-learn's definition give for the same values, the
 * corner cases the header promises, and the bootstrap against the exact distribution of a resample's median.
 */
#include <math.h>
#include <string.h>

#include "els/compare.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

/* NumPy: np.corrcoef, 1 − SS_res/SS_tot, np.mean of squares; then with np.clip(·, −1, 1). */
START_TEST(test_metrics_equal_numpy)
{
    static const float reference[6] = {-1.25f, -0.5f, 0.0f, 0.25f, 0.75f, 1.5f};
    static const float image[6] = {-1.0f, -0.75f, 0.25f, 0.0f, 1.25f, 1.0f};
    struct els_compared c = els_compare_one(image, reference, 6);

    ck_assert_double_eq_tol(c.plain.pearson_r, 0.9151860797539346, 1e-14);
    ck_assert_double_eq_tol(c.plain.pearson_r_squared, 0.9151860797539346 * 0.9151860797539346,
                            1e-14);
    ck_assert_double_eq_tol(c.plain.r2_score, 0.8367346938775511, 1e-14);
    ck_assert_double_eq_tol(c.plain.mse, 0.125, 1e-14);
    ck_assert_double_eq_tol(c.clamped.pearson_r, 0.9676716947869918, 1e-14);
    ck_assert_double_eq_tol(c.clamped.r2_score, 0.9117647058823529, 1e-14);
    ck_assert_double_eq_tol(c.clamped.mse, 0.041666666666666664, 1e-14);
}
END_TEST

START_TEST(test_constant_images_have_defined_metrics)
{
    static const float flat[4] = {0.5f, 0.5f, 0.5f, 0.5f}, other[4] = {0.5f, 0.25f, 0.5f, 0.5f};
    struct els_compared c = els_compare_one(flat, flat, 4);

    ck_assert_double_eq(c.plain.pearson_r, 0);
    ck_assert_double_eq(c.plain.r2_score, 1);
    ck_assert_double_eq(c.plain.mse, 0);
    c = els_compare_one(other, flat, 4);
    ck_assert_double_eq(c.plain.pearson_r, 0);
    ck_assert_double_eq(c.plain.r2_score, 0);
    c = els_compare_one(flat, other, 4);
    ck_assert_double_eq(c.plain.pearson_r, 0);
    ck_assert(isfinite(c.plain.r2_score) && c.plain.r2_score < 0);
}
END_TEST

static void fill(float *x, size_t n, uint64_t seed)
{
    struct els_noise g;

    els_noise_init(&g, ELS_NOISE_NUMPY, seed);
    els_noise_randn(&g, x, n);
}

START_TEST(test_summary_and_beats_is)
{
    enum { N = 5, VALUES = 12 };
    const struct els_shape shape = {1, 3, 4};
    float network[N * VALUES], machine[N * VALUES], ideal[N * VALUES];
    struct els_comparison c = {0};
    double sum = 0, r[N];
    int beaten = 0;

    fill(network, N * VALUES, 1);
    fill(ideal, N * VALUES, 2);
    for (int i = 0; i < N * VALUES; i++)
        machine[i] = network[i] + 0.3f * ideal[(i * 7) % (N * VALUES)];
    /* The last image is the ideal machine's own: not better than it, so not counted. */
    memcpy(machine + 4 * VALUES, ideal + 4 * VALUES, VALUES * sizeof(float));
    ck_assert_int_eq(els_compare(&c, network, machine, ideal, N, shape, NULL, NULL), 0);
    ck_assert_int_eq(c.n, N);
    for (int i = 0; i < N; i++) {
        r[i] = els_compare_one(machine + i * VALUES, network + i * VALUES, VALUES).plain.pearson_r;
        ck_assert_double_eq(c.machine[i].plain.pearson_r, r[i]);
        ck_assert_double_eq(
            c.is[i].clamped.mse,
            els_compare_one(ideal + i * VALUES, network + i * VALUES, VALUES).clamped.mse);
        sum += r[i];
        beaten += r[i] > c.is[i].plain.pearson_r;
    }
    ck_assert_int_eq(beaten, 4);
    ck_assert_double_eq(c.beats_is, 0.8);
    ck_assert_double_eq_tol(c.summary.plain.pearson_r.mean, sum / N, 1e-15);
    for (int m = 0; els_metric_name(m); m++) {
        const struct els_spread *s = els_metric_spread(&c.summary.plain, m);
        int below = 0, above = 0;

        for (int i = 0; i < N; i++) {
            below += els_metric_of(&c.machine[i].plain, m) < s->median;
            above += els_metric_of(&c.machine[i].plain, m) > s->median;
        }
        ck_assert_int_eq(below, 2);
        ck_assert_int_eq(above, 2);
        ck_assert(s->low <= s->median && s->median <= s->high);
    }
    els_comparison_deinit(&c);
    ck_assert_int_eq(els_compare(&c, network, machine, NULL, N, shape, NULL, NULL), 0);
    ck_assert_ptr_null(c.is);
    ck_assert_double_eq(c.beats_is, 0);
    els_comparison_deinit(&c);
}
END_TEST

/*
 * The median of a resample of n = 25 values is at most the r-th smallest with probability P(Binomial(n, r/n) ≥ 13):
 * that gives the exact interval. 25 images whose mse is their number.
 */
START_TEST(test_bootstrap_equals_the_exact_distribution)
{
    enum { N = 25 };
    const struct els_shape shape = {1, 1, 1};
    float network[N] = {0}, machine[N];
    struct els_comparison c = {0};
    int low = 0, high = 0;

    for (int i = 0; i < N; i++)
        machine[i] = sqrtf((float)(i + 1));
    for (int rank = 1; rank <= N; rank++) {
        double p = (double)rank / N, tail = 0, term;

        for (int k = 13; k <= N; k++) {
            term = exp(lgamma(N + 1) - lgamma(k + 1) - lgamma(N - k + 1)) * pow(p, k) *
                   pow(1 - p, N - k);
            tail += term;
        }
        low = low == 0 && tail > 0.025 ? rank : low;
        high = high == 0 && tail >= 0.975 ? rank : high;
    }
    ck_assert_int_eq(els_compare(&c, network, machine, NULL, N, shape, NULL, NULL), 0);
    ck_assert_double_eq_tol(c.summary.plain.mse.median, 13, 1e-5);
    ck_assert_double_eq_tol(c.summary.plain.mse.low, low, 1e-5);
    ck_assert_double_eq_tol(c.summary.plain.mse.high, high, 1e-5);
    els_comparison_deinit(&c);
}
END_TEST

START_TEST(test_faults_name_the_tensor)
{
    const struct els_shape shape = {1, 2, 2};
    float good[8] = {0, 1, 2, 3, 4, 5, 6, 7}, bad[8] = {0, 1, 2, 3, 4, NAN, 6, 7};
    struct els_comparison c = {0};
    struct els_error err = {0};

    ck_assert_int_eq(els_compare(&c, bad, good, good, 2, shape, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "images");
    ck_assert_ptr_nonnull(strstr(err.message, "image 1"));
    ck_assert_int_eq(els_compare(&c, good, bad, good, 2, shape, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "machine");
    ck_assert_int_eq(els_compare(&c, good, good, bad, 2, shape, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "is");
    ck_assert_int_eq(els_compare(&c, good, good, good, 0, shape, NULL, &err), ELS_EINVAL);
    ck_assert_int_eq(els_compare(&c, good, good, good, ELS_MAX_COMPARED + 1, shape, NULL, &err),
                     ELS_EINVAL);
    ck_assert_str_eq(err.field, "images");
}
END_TEST

START_TEST(test_sheet_has_a_row_per_image)
{
    const struct els_shape shape = {1, 2, 2};
    const float network[8] = {-1, -1, -1, -1, 1, 1, 1, 1}, machine[8] = {0},
                ideal[8] = {1, 1, 1, 1};
    struct els_picture p = {0};

    ck_assert_int_eq(els_compare_sheet(&p, network, machine, ideal, 2, shape), 0);
    ck_assert_int_eq(p.width, 3 * 2 + 2 * 2);
    ck_assert_int_eq(p.height, 2 * 2 + 2);
    ck_assert_int_eq(p.pixels[0], 0);
    ck_assert_int_eq(p.pixels[4], 128);
    ck_assert_int_eq(p.pixels[8], 255);
    ck_assert_int_eq(p.pixels[4 * 10], 255);
    els_picture_deinit(&p);
    ck_assert_int_eq(els_compare_sheet(&p, network, machine, NULL, 2, shape), 0);
    ck_assert_int_eq(p.width, 2 * 2 + 2);
    els_picture_deinit(&p);
}
END_TEST

UNIT_MAIN("compare", test_metrics_equal_numpy, test_constant_images_have_defined_metrics,
          test_summary_and_beats_is, test_bootstrap_equals_the_exact_distribution,
          test_faults_name_the_tensor, test_sheet_has_a_row_per_image)
