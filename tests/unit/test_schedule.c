/*
 * The five noise schedules against values from 40-digit arithmetic.
 *
 * Largest relative error seen: β 6e-16, ᾱ 1.8e-14 at t = 1, where the angle's own rounding meets
 * a cosine near zero (cosine_nichol's ᾱ is 0 there, and 4e-33 in float64).
 */
#include <math.h>

#include "els/error.h"
#include "els/schedule.h"
#include "unit.h"

static const struct {
    enum els_schedule schedule;
    double t, beta, alpha_bar;
} values[] = {
    {ELS_COSINE, 0.0, 0.0, 1.0},
    {ELS_COSINE, 1e-09, 2.4283914204935318642e-18, 0.99999999999999999757},
    {ELS_COSINE, 0.0009765625, 2.3158927401173683601e-6, 0.99999768410725988263},
    {ELS_COSINE, 0.05, 0.0060587028981426633483, 0.99394129710185733665},
    {ELS_COSINE, 0.35, 0.26912569338248300403, 0.73087430661751699597},
    {ELS_COSINE, 0.5, 0.4937668427022924826, 0.5062331572977075174},
    {ELS_COSINE, 0.95, 0.99185311182545063935, 0.0081468881745493606477},
    {ELS_COSINE, 1.0, 0.99984459100040814208, 0.00015540899959185792285},
    {ELS_COSINE_NICHOL, 0.0, 0.00015540899959185792285, 0.99984459100040814208},
    {ELS_COSINE_NICHOL, 1e-09, 0.00015540903844209746023, 0.99984459096155790254},
    {ELS_COSINE_NICHOL, 0.0009765625, 0.00019566379861213240161, 0.9998043362013878676},
    {ELS_COSINE_NICHOL, 0.05, 0.0081468881745493489836, 0.99185311182545065102},
    {ELS_COSINE_NICHOL, 0.35, 0.28025435009767750259, 0.71974564990232249741},
    {ELS_COSINE_NICHOL, 0.5, 0.5062331572977075174, 0.4937668427022924826},
    {ELS_COSINE_NICHOL, 0.95, 0.99394129710185732658, 0.0060587028981426734176},
    {ELS_COSINE_NICHOL, 1.0, 1.0, 0.0},
    {ELS_LINEAR, 0.0, 0.01, 0.99},
    {ELS_LINEAR, 1e-09, 0.01000000097, 0.98999999903},
    {ELS_LINEAR, 0.0009765625, 0.010947265625, 0.989052734375},
    {ELS_LINEAR, 0.05, 0.058500000000000002692, 0.94149999999999999731},
    {ELS_LINEAR, 0.35, 0.34949999999999997846, 0.65050000000000002154},
    {ELS_LINEAR, 0.5, 0.495, 0.505},
    {ELS_LINEAR, 0.95, 0.93149999999999995692, 0.068500000000000043077},
    {ELS_LINEAR, 1.0, 0.98, 0.02},
    {ELS_EXPONENTIAL, 0.0, 0.0, 1.0},
    {ELS_EXPONENTIAL, 1e-09, 1.9999999980000001259e-9, 0.999999998000000002},
    {ELS_EXPONENTIAL, 0.0009765625, 0.00195121889252452729, 0.99804878110747547271},
    {ELS_EXPONENTIAL, 0.05, 0.095162581964040431859, 0.90483741803595956814},
    {ELS_EXPONENTIAL, 0.35, 0.50341469620859046324, 0.49658530379140953676},
    {ELS_EXPONENTIAL, 0.5, 0.6321205588285576784, 0.3678794411714423216},
    {ELS_EXPONENTIAL, 0.95, 0.85043138077736493407, 0.14956861922263506593},
    {ELS_EXPONENTIAL, 1.0, 0.86466471676338730811, 0.13533528323661269189},
    {ELS_DDPM_LINEAR, 0.0, 0.0, 1.0},
    {ELS_DDPM_LINEAR, 1e-09, 0.0, 1.0},
    {ELS_DDPM_LINEAR, 0.0009765625, 0.0001, 0.9999},
    {ELS_DDPM_LINEAR, 0.05, 0.028984277060559556486, 0.97101572293944044351},
    {ELS_DDPM_LINEAR, 0.35, 0.71480049281933286692, 0.28519950718066713308},
    {ELS_DDPM_LINEAR, 0.5, 0.92141275711822176266, 0.078587242881778237343},
    {ELS_DDPM_LINEAR, 0.95, 0.99989190171836861728, 0.00010809828163138272329},
    {ELS_DDPM_LINEAR, 1.0, 0.99995964170234624317, 0.000040358297653756833148},
};

START_TEST(test_values)
{
    const double relative = 4e-14, vanishing = 1e-32;

    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        enum els_schedule s = values[i].schedule;
        double beta = els_schedule_beta(s, values[i].t);
        double alpha_bar = els_schedule_alpha_bar(s, values[i].t);

        ck_assert_msg(fabs(beta - values[i].beta) <= relative * values[i].beta,
                      "%s(%g): beta %.17g, not %.17g", els_schedule_name(s), values[i].t, beta,
                      values[i].beta);
        ck_assert_msg(fabs(alpha_bar - values[i].alpha_bar) <=
                          relative * values[i].alpha_bar + vanishing,
                      "%s(%g): alpha_bar %.17g, not %.17g", els_schedule_name(s), values[i].t,
                      alpha_bar, values[i].alpha_bar);
    }
}
END_TEST

/* ᾱ must fall from step to step, for any number of steps that the schedule can tell apart. */
START_TEST(test_monotone_and_complementary)
{
    for (int s = 0; s < ELS_SCHEDULE_COUNT; s++) {
        for (int i = 0; i <= 1000; i++) {
            double a = els_schedule_alpha_bar((enum els_schedule)s, i / 1000.0);
            double b = els_schedule_beta((enum els_schedule)s, i / 1000.0);

            ck_assert_double_eq_tol(a + b, 1, 4e-16);
            ck_assert(a >= 0 && a <= 1 && b >= 0 && b <= 1);
            if (i > 0)
                ck_assert_double_lt(a,
                                    els_schedule_alpha_bar((enum els_schedule)s, (i - 1) / 1000.0));
        }
    }
}
END_TEST

START_TEST(test_names)
{
    enum els_schedule s = ELS_COSINE;

    for (int i = 0; i < ELS_SCHEDULE_COUNT; i++) {
        ck_assert_int_eq(els_schedule_parse(els_schedule_name((enum els_schedule)i), &s), 0);
        ck_assert_int_eq(s, i);
    }
    ck_assert_ptr_null(els_schedule_name(ELS_SCHEDULE_COUNT));
    ck_assert_str_eq(els_schedule_name(ELS_DDPM_LINEAR), "ddpm_linear");
    s = ELS_LINEAR;
    ck_assert_int_eq(els_schedule_parse("cos", &s), ELS_ENOENT);
    ck_assert_int_eq(els_schedule_parse("", &s), ELS_ENOENT);
    ck_assert_int_eq(s, ELS_LINEAR);
}
END_TEST

UNIT_MAIN("schedule", test_values, test_monotone_and_complementary, test_names)
