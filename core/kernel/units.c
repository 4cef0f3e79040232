/*
 * Bounds on logits, from the noisy image alone: how far the logits of one query can lie apart, and
 * how much of their difference is lost when x is rounded. Called by the integer kernels once per
 * noisy image and scale. Holds no state.
 */
#include "core/kernel/units.h"

#include <math.h>

int els_window_values(const struct els_sweep *s)
{
    return (2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;
}

double els_largest(const struct els_sweep *s, const float *x)
{
    double largest = 0;

    for (size_t i = 0; i < els_shape_values(s->shape); i++)
        largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

/* How far (x − ay)² can move while y goes through [−1,1]. */
static double pixel_range(double x, double a)
{
    return x >= a ? 4 * a * x : (x + a) * (x + a);
}

/* Σ pixel_range over the rows and channels of one column of the windows around row i. */
static double column_range(const struct els_sweep *s, const float *x, int i, int column, double a)
{
    int h = s->shape.h, w = s->shape.w;
    double sum = 0;

    for (int t = i - s->rh; t <= i + s->rh; t++) {
        int row = els_position(s, t, h);

        for (int c = 0; row >= 0 && c < s->shape.c; c++)
            sum += pixel_range(fabs((double)x[(c * h + row) * w + column]), a);
    }
    return sum;
}

/* The largest box sum of pixel_range/2β. */
double els_logit_range(const struct els_sweep *s, const float *x)
{
    double a = s->scale > 0 ? 2 * s->bias / s->scale : 0, most = 0, column[ELS_MAX_SIDE];

    for (int i = 0; a > 0 && i < s->shape.h; i++) {
        for (int j = 0; j < s->shape.w; j++)
            column[j] = column_range(s, x, i, j, a);
        for (int j = 0; j < s->shape.w; j++) {
            double sum = 0;

            for (int b = j - s->rw; b <= j + s->rw; b++) {
                int at = els_position(s, b, s->shape.w);

                sum += at < 0 ? 0 : column[at];
            }
            most = fmax(most, sum);
        }
    }
    return a > 0 ? most * s->bias / (a * a) : 0;
}

/*
 * A logit is off by ⟨e, y⟩·a/β, e the rounding error of x: uniform, δ/√12 per value. Candidates
 * that weigh anything are near x, within about βV + 20β in squared distance, and so near each
 * other.
 */
double els_logit_error(const struct els_sweep *s, double delta)
{
    double values = els_window_values(s), apart = 2 * sqrt(values);

    if (s->bias > 0)
        apart = fmin(apart, 2 * sqrt((values + 20) / (2 * s->bias)));
    return s->scale * delta / sqrt(12.0) * apart;
}

int els_choose_fraction(double nats, double limit, int most)
{
    int k = most;

    while (k > 0 && ldexp(nats * M_LOG2E, k) >= limit)
        k--;
    return k;
}
