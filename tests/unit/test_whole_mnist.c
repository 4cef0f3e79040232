/*
 * The engine on all 60,000 MNIST images against the definition in float64, at a few pixels: sums
 * over 50 million candidates must lose nothing. The definition is written out here once more: one
 * pixel of bbels, its own candidates, the squared distance of two windows, a running softmax.
 *
 * Tolerance: x̂0 within 1e-4; what was measured is printed. Without ../shared/data it is skipped.
 */
#include <math.h>
#include <string.h>

#include "els/engine.h"
#include "els/import.h"
#include "els/mem.h"
#include "els/noise.h"
#include "els/pool.h"
#include "els/schedule.h"
#include "unit.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE };

struct question {
    double t;
    int p, i, j; /* the pixel */
};

/* An edge, strokes and background; the largest P costs the most. */
static const struct question questions[] = {
    {0.05, 3, 13, 15}, {0.05, 3, 0, 9}, {0.05, 3, 20, 18}, {0.2, 5, 16, 14}, {0.6, 11, 12, 17},
};

enum { QUESTIONS = sizeof(questions) / sizeof(*questions) };

static struct els_bank *mnist;

/* Image n of the bank, noised to the time t. */
static void noisy(double t, float *x)
{
    double a = sqrt(els_schedule_alpha_bar(ELS_COSINE, t)), s = sqrt(els_schedule_beta(ELS_COSINE, t));
    struct els_noise noise;
    float eta[PIXELS];

    els_bank_image(mnist, 4711, x);
    els_noise_init(&noise, ELS_NOISE_NUMPY, 7);
    els_noise_randn(&noise, eta, PIXELS);
    for (int i = 0; i < PIXELS; i++)
        x[i] = (float)(a * (double)x[i] + s * (double)eta[i]);
}

/* ‖x_Ω − a·y_c‖² for the windows around (i, j) and (k, l); both are clipped alike. */
static double distance(const struct question *q, double a, const float *x, const float *y, int k,
                       int l)
{
    int r = q->p / 2;
    double sum = 0;

    for (int di = -r; di <= r; di++)
        for (int dj = -r; dj <= r; dj++) {
            int i = q->i + di, j = q->j + dj;
            double d;

            if (i < 0 || i >= SIDE || j < 0 || j >= SIDE)
                continue;
            d = (double)x[i * SIDE + j] - a * (double)y[(k + di) * SIDE + l + dj];
            sum += d * d;
        }
    return sum;
}

/* Along one axis: interior positions from the interior, edge positions from themselves. */
static void sources(int i, int r, int *from, int *to)
{
    int interior = i >= r && i < SIDE - r;

    *from = interior ? r : i;
    *to = interior ? SIDE - r : i + 1;
}

static double by_definition(const struct question *q, const float *x)
{
    double a = sqrt(els_schedule_alpha_bar(ELS_COSINE, q->t));
    double beta = els_schedule_beta(ELS_COSINE, q->t), m = -INFINITY, s = 0, v = 0;
    int k0, k1, l0, l1;

    sources(q->i, q->p / 2, &k0, &k1);
    sources(q->j, q->p / 2, &l0, &l1);
    for (int64_t n = 0; n < els_bank_info(mnist)->num_images; n++) {
        float y[PIXELS];

        els_bank_image(mnist, n, y);
        for (int k = k0; k < k1; k++)
            for (int l = l0; l < l1; l++) {
                double logit = -distance(q, a, x, y, k, l) / (2 * beta), w;

                if (logit < m - 50)
                    continue; /* 50 million of them are less than 1e-14 of the sum */
                if (logit > m) {
                    s *= exp(m - logit);
                    v *= exp(m - logit);
                    m = logit;
                }
                w = exp(logit - m);
                s += w;
                v += w * (double)y[k * SIDE + l];
            }
    }
    return v / s;
}

/* All pixels. */
static void by_engine(const struct question *q, const float *x, struct els_pool *pool, float *x0)
{
    const struct els_bank_info *info = els_bank_info(mnist);
    _cleanup_(els_freep) int64_t *images = els_alloc_array((size_t)info->num_images, sizeof(*images));
    struct els_evaluation e = {
        .bank = mnist,
        .images = images,
        .num_images = info->num_images,
        .machine = ELS_MACHINE_BBELS,
        .num_p = 1,
        .p = &q->p,
        .alpha_bar = els_schedule_alpha_bar(ELS_COSINE, q->t),
        .beta = els_schedule_beta(ELS_COSINE, q->t),
        .batch = 1,
        .x = x,
    };

    ck_assert_ptr_nonnull(images);
    for (int64_t n = 0; n < info->num_images; n++)
        images[n] = n;
    ck_assert_int_eq(els_evaluate(&e, pool, NULL, &(struct els_answer){.x0 = x0}, NULL), 0);
}

START_TEST(test_sixty_thousand_images_lose_nothing)
{
    struct els_pool *pool = NULL;
    float x[PIXELS], x0[PIXELS];
    double worst = 0;

    ck_assert_int_eq(els_pool_new(&pool, 0), 0);
    for (int n = 0; n < QUESTIONS; n++) {
        const struct question *q = &questions[n];
        double gap;

        if (n == 0 || q->t != q[-1].t || q->p != q[-1].p) {
            noisy(q->t, x);
            by_engine(q, x, pool, x0);
        }
        gap = fabs((double)x0[q->i * SIDE + q->j] - by_definition(q, x));
        printf("t=%g, P=%d, pixel (%d,%d): within %.2g of float64\n", q->t, q->p, q->i, q->j, gap);
        worst = fmax(worst, gap);
        ck_assert_msg(gap <= 1e-4, "t=%g, P=%d, pixel (%d,%d) differs by %g", q->t, q->p, q->i,
                      q->j, gap);
    }
    printf("%s: 60,000 images, worst %.2g (allowed 1e-4)\n", els_engine_kernel(), worst);
    els_pool_free(pool);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_sixty_thousand_images_lose_nothing};
    const char *path = unit_shared_path("data/mnist/train-images-idx3-ubyte.gz");
    struct els_import_spec spec = {.source = path, .resize_h = SIDE, .resize_w = SIDE};
    int status;

    if (!path) {
        printf("skipped: there is no ../shared/data/mnist\n");
        return UNIT_SKIP;
    }
    status = els_import(&mnist, &spec, NULL);
    if (status < 0)
        return EXIT_FAILURE;
    status = unit_run("whole_mnist", tests, 1);
    els_bank_unref(mnist);
    return status;
}
