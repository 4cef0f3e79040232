/*
 * The NEON kernel against the C kernel, on whatever runs the program: tests/neon/neon.sh builds it
 * for 64-bit ARM and runs it under emulation. The bank is random pictures in memory, so that the
 * engine needs no library besides libc.
 */
#include <math.h>
#include <stdio.h>

#include "core/engine/evaluation.h"
#include "core/kernel/kernel.h"
#include "els/bank.h"
#include "els/engine.h"
#include "els/noise.h"

enum { NUM_IMAGES = 11, MAX_SIDE = 14, MAX_VALUES = 4 * MAX_SIDE * MAX_SIDE };

static const double ALLOWED = 1e-4; /* as tests/unit/test_kernel.c */

/* ---- the bank ---- */

struct els_bank {
    struct els_bank_info info;
    uint8_t images[NUM_IMAGES * MAX_VALUES];
};

const struct els_bank_info *els_bank_info(const struct els_bank *bank)
{
    return &bank->info;
}

const void *els_bank_images(const struct els_bank *bank)
{
    return bank->images;
}

static struct els_bank bank;

static uint8_t random_byte(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(*state >> 56);
}

/* Pictures with flat parts, edges and noise. */
static void make_bank(struct els_shape shape)
{
    uint64_t state = 1;

    bank.info.shape = shape;
    bank.info.dtype = ELS_U8;
    bank.info.num_images = NUM_IMAGES;
    for (size_t i = 0; i < NUM_IMAGES * els_shape_values(shape); i++)
        bank.images[i] = (uint8_t)(i / 5 % 3 == 0    ? 0
                                   : i / 40 % 2 == 0 ? random_byte(&state)
                                                     : 200);
}

/* ---- one case ---- */

struct machine_case {
    enum els_machine machine;
    enum els_candidates candidates;
};

static const struct machine_case machines[] = {
    {ELS_MACHINE_IS, ELS_CANDIDATES_WRAPPED}, {ELS_MACHINE_ES, ELS_CANDIDATES_WRAPPED},
    {ELS_MACHINE_LS, ELS_CANDIDATES_WRAPPED}, {ELS_MACHINE_ELS, ELS_CANDIDATES_WRAPPED},
    {ELS_MACHINE_ELS, ELS_CANDIDATES_VALID},  {ELS_MACHINE_BBELS, ELS_CANDIDATES_WRAPPED},
};

static int evaluate(const char *kernel, const struct els_evaluation *e, float *x0, float *entropy)
{
    struct els_answer answer = {.x0 = x0, .entropy = entropy};

    return els_engine_use_kernel(kernel, NULL) < 0 ? -1
                                                   : els_evaluate(e, NULL, NULL, &answer, NULL);
}

/* The largest difference of x0 and entropy; negative where the case is refused by both. */
static double difference(const struct machine_case *m, int p, double beta, const float *x)
{
    static float got[MAX_VALUES], wanted[MAX_VALUES], got_entropy[MAX_VALUES], entropy[MAX_VALUES];
    int64_t images[NUM_IMAGES];
    size_t values = els_shape_values(bank.info.shape);
    struct els_evaluation e = {
        .bank = &bank,
        .images = images,
        .num_images = NUM_IMAGES,
        .machine = m->machine,
        .candidates = m->candidates,
        .num_p = 1,
        .p = &p,
        .alpha_bar = 1 - beta,
        .beta = beta,
        .batch = 1,
        .x = x,
    };
    double most = 0;
    int refused;

    for (int i = 0; i < NUM_IMAGES; i++)
        images[i] = i;
    refused = evaluate("c", &e, wanted, entropy) < 0;
    if ((evaluate("neon", &e, got, got_entropy) < 0) != refused)
        return INFINITY;
    for (size_t i = 0; !refused && i < values; i++)
        most = fmax(most, isnan(got[i]) ? INFINITY : fabs((double)got[i] - (double)wanted[i]));
    for (size_t i = 0; !refused && i < values / (size_t)bank.info.shape.c; i++)
        most = fmax(most, fabs((double)got_entropy[i] - (double)entropy[i]) / 10);
    return refused ? -1 : most;
}

int main(void)
{
    const struct els_shape shapes[] = {{1, 12, 12}, {3, 9, 14}, {2, 5, 3},
                                       {4, 7, 8},   {1, 1, 1},  {1, 5, 32}};
    const double betas[] = {.02, .3, .95};
    const int sizes[] = {1, 3, 5, 7, 11, 17};
    int cases = 0, failed = 0;
    double worst = 0;

    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        struct els_noise noise;
        float x[MAX_VALUES];

        make_bank(shapes[s]);
        els_noise_init(&noise, ELS_NOISE_NUMPY, s);
        for (size_t m = 0; m < sizeof(machines) / sizeof(*machines); m++)
            for (size_t p = 0; p < sizeof(sizes) / sizeof(*sizes); p++)
                for (size_t b = 0; b < sizeof(betas) / sizeof(*betas); b++) {
                    double d;

                    els_noise_randn(&noise, x, els_shape_values(shapes[s]));
                    for (size_t i = 0; i < els_shape_values(shapes[s]); i++)
                        x[i] = (float)(sqrt(1 - betas[b]) * (bank.images[i] / 127.5 - 1) +
                                       sqrt(betas[b]) * (double)x[i]);
                    d = difference(&machines[m], sizes[p], betas[b], x);
                    if (d < 0)
                        continue;
                    cases++;
                    worst = fmax(worst, d);
                    if (d > ALLOWED) {
                        failed++;
                        printf("%s, %dx%dx%d, P = %d, beta = %g: differs by %g\n",
                               els_machine_name(machines[m].machine), shapes[s].c, shapes[s].h,
                               shapes[s].w, sizes[p], betas[b], d);
                    }
                }
    }
    printf("neon: %d cases, %d failed, largest difference %.1e (allowed %g)\n", cases, failed,
           worst, ALLOWED);
    return failed > 0 || cases < 100;
}
