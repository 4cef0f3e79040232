/*
 * The monoid of posteriors: neutral element, merging in any grouping, extremes of the logits.
 */
#include <math.h>

#include "core/theory/posterior.h"
#include "unit.h"

static const double LOGIT[] = {-3.0, 0.5, -700.0, 2.0, 2.0, -1e6};
static const double VALUE[] = {1.0, -1.0, 0.25, 0.5, -0.5, 1.0};
enum { N = 6 };

static struct els_posterior of_range(int from, int to, double shift)
{
    struct els_posterior p = {0};

    ck_assert_int_eq(els_posterior_init(&p, 1, 1), 0);
    for (int i = from; i < to; i++)
        els_posterior_add(&p, 0, LOGIT[i] + shift, 1, 0, &VALUE[i]);
    return p;
}

static void expect(const struct els_posterior *p)
{
    double z = 0, mean = 0, entropy = 0;

    for (int i = 0; i < N; i++)
        z += exp(LOGIT[i]);
    for (int i = 0; i < N; i++) {
        double w = exp(LOGIT[i]) / z;

        mean += w * VALUE[i];
        entropy -= w > 0 ? w * log(w) : 0;
    }
    ck_assert_double_eq_tol(els_posterior_mean(p, 0, 0), mean, 1e-15);
    ck_assert_double_eq_tol(els_posterior_entropy(p, 0), entropy, 1e-14);
}

START_TEST(test_any_grouping_gives_the_same)
{
    for (int cut = 0; cut <= N; cut++) {
        struct els_posterior a = of_range(0, cut, 0), b = of_range(cut, N, 0);

        els_posterior_merge(&a, &b);
        expect(&a);
        els_posterior_deinit(&a);
        els_posterior_deinit(&b);
    }
}
END_TEST

START_TEST(test_only_differences_of_logits_count)
{
    /* e^-5000 and e^5000 are beyond float64; their ratio is not. */
    for (double shift = -5000; shift <= 5000; shift += 5000) {
        struct els_posterior p = of_range(0, N, shift);

        struct els_posterior same = of_range(0, N, 0);

        ck_assert_double_eq_tol(els_posterior_mean(&p, 0, 0), els_posterior_mean(&same, 0, 0),
                                1e-12);
        els_posterior_deinit(&same);
        ck_assert(isfinite(els_posterior_entropy(&p, 0)));
        els_posterior_deinit(&p);
    }
}
END_TEST

START_TEST(test_single_candidate_is_certain)
{
    struct els_posterior p = of_range(2, 3, 0);

    ck_assert_double_eq(els_posterior_mean(&p, 0, 0), 0.25);
    ck_assert_double_eq(els_posterior_entropy(&p, 0), 0);
    els_posterior_deinit(&p);
}
END_TEST

START_TEST(test_equal_weights_have_entropy_log_n)
{
    struct els_posterior p = of_range(3, 5, 0);

    ck_assert_double_eq_tol(els_posterior_mean(&p, 0, 0), 0, 1e-16);
    ck_assert_double_eq_tol(els_posterior_entropy(&p, 0), log(2), 1e-15);
    els_posterior_deinit(&p);
}
END_TEST

UNIT_MAIN("posterior", test_any_grouping_gives_the_same, test_only_differences_of_logits_count,
          test_single_candidate_is_certain, test_equal_weights_have_entropy_log_n)
