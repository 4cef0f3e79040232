/*
 * The kernels from inside: each is given buffers of exactly the size it asked for, between
 * canaries, and walks random shapes: 1 to 4 channels, one pixel up, no squares, windows beyond
 * the image, groups that are not full. Nothing outside the buffers may change, whatever they held
 * before must not matter, and the sums must be those of the C kernel.
 *
 * The sums are compared in the release build, of every kernel but C itself. A sanitizer build walks
 * the same shapes with checked kernels, C too, and looks at memory alone.
 *
 * Tolerance: x̂0 of one group within 1e-4 of the C kernel's, as in test_engine.c, and within 2e-6
 * for is and es, whose kernels run in float64 like the C one; measured: printed.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/engine/pass_internal.h"
#include "core/kernel/kernel.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

enum { CANARY = 256, CASES = 160 };

/* Are the sums those of C? Not where C would be compared with itself, nor under a sanitizer. */
static bool compares(void)
{
#ifdef __SANITIZE_ADDRESS__
    return false;
#else
    return strcmp(els_engine_kernel(), "c") != 0;
#endif
}

static uint64_t step(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* `size` bytes between two canaries, all of them holding `fill`. */
struct fenced {
    uint8_t *block;
    size_t size;
};

static struct fenced fence(size_t size, int fill)
{
    struct fenced f = {els_alloc_aligned(size + 2 * CANARY, 1), size};

    ck_assert_ptr_nonnull(f.block);
    memset(f.block, 0xa5, size + 2 * CANARY);
    memset(f.block + CANARY, fill, size);
    return f;
}

static void *inside(struct fenced f)
{
    return f.block + CANARY;
}

/* The first of CANARY bytes that is not 0xa5; CANARY: there is none. (An assertion for each byte would take seconds.) */
static size_t written(const uint8_t *canary)
{
    size_t i = 0;

    while (i < CANARY && canary[i] == 0xa5)
        i++;
    return i;
}

static void check_fence(struct fenced f, const char *what)
{
    size_t before = written(f.block), after = written(f.block + CANARY + f.size);

    ck_assert_msg(before == CANARY, "%s: byte −%zu was written", what, CANARY - before);
    ck_assert_msg(after == CANARY, "%s: byte %zu past the end was written", what, after);
    free(f.block);
}

struct problem {
    struct els_bank *bank;
    struct els_evaluation e;
    float x[4 * 24 * 24];
    int64_t images[ELS_MAX_LANES];
    int p;
};

/* An image and its windows. */
struct size {
    struct els_shape shape;
    int p;
};

/* What random problems are drawn from, and how many of them. */
struct domain {
    int cases;
    enum els_machine machines[3];
    int num_machines;
    double betas[4];
    const struct size *sizes; /* one of these, or NULL: any */
    int num_sizes;
};

static struct size random_size(const struct domain *domain, uint64_t *state)
{
    struct els_shape shape = {1 + (int)(step(state) % 4), 1 + (int)(step(state) % 24),
                              1 + (int)(step(state) % 24)};
    int p = 1 + 2 * (int)(step(state) % (step(state) % 2 ? 16 : 3));

    if (domain->sizes)
        return domain->sizes[step(state) % (uint64_t)domain->num_sizes];
    return (struct size){shape, p};
}

static void random_problem(struct problem *q, const struct domain *domain, uint64_t *state)
{
    struct size size = random_size(domain, state);
    struct els_shape shape = size.shape;
    int64_t num_images = 1 + (int64_t)(step(state) % 8);
    size_t count = (size_t)num_images * els_shape_values(shape);
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(count, 1);
    struct els_bank_parts parts = {
        .name = "random", .shape = shape, .num_images = num_images, .dtype = ELS_U8, .images = u8};
    struct els_noise noise;

    memset(q, 0, sizeof(*q));
    for (size_t i = 0; i < count; i++)
        u8[i] = step(state) % 3 ? (uint8_t)step(state) : 0;
    ck_assert_int_eq(els_bank_new(&q->bank, &parts, NULL), 0);
    q->e = (struct els_evaluation){
        .bank = q->bank,
        .images = q->images,
        .num_images = num_images,
        .machine = domain->machines[step(state) % (uint64_t)domain->num_machines],
        .candidates = step(state) % 2 ? ELS_CANDIDATES_WRAPPED : ELS_CANDIDATES_VALID,
        .num_p = 1,
        .p = &q->p,
        .beta = domain->betas[step(state) % 4],
        .batch = 1,
        .x = q->x,
    };
    q->e.alpha_bar = 1 - q->e.beta;
    q->p = size.p;
    while (els_machine_check_p(q->e.machine, shape, q->p, NULL) < 0)
        q->p -= 2;
    for (int64_t i = 0; i < num_images; i++)
        q->images[i] = i;
    els_noise_init(&noise, ELS_NOISE_NUMPY, step(state));
    els_noise_randn(&noise, q->x, els_shape_values(shape));
}

/*
 * One group through every call of the kernel; returns Σ v / Σ s over all images per pixel and
 * channel.
 */
static void run_group(const struct els_kernel *k, const struct els_sweep *s,
                      const struct problem *q, int fill, double *x0)
{
    size_t pixels = (size_t)s->shape.h * (size_t)s->shape.w;
    size_t lanes = (size_t)k->lanes, slots = (size_t)s->slots;
    size_t used = k->mixes_images ? lanes : (size_t)q->e.num_images;
    struct fenced query = fence(k->query_bytes(s), fill), group = fence(k->group_bytes(s), fill);
    struct fenced work = fence(k->work_bytes(s), fill);
    struct fenced sums = fence(pixels * slots * lanes * sizeof(float), 0);
    struct fenced m = fence(pixels * sizeof(double), 0), floor = fence(pixels * sizeof(int64_t), 0);
    struct fenced total = fence(pixels * sizeof(double), 0);
    struct els_lanes l = {inside(m), inside(sums), inside(floor), inside(total)};

    for (size_t i = 0; i < pixels; i++) {
        l.m[i] = l.log_total[i] = -INFINITY;
        l.floor[i] = ELS_NO_FLOOR;
    }
    k->prepare_query(s, q->x, inside(query));
    k->prepare_group(s, q->images, (int)q->e.num_images, inside(group));
    if (k->begin)
        k->begin(s, inside(query), inside(group), inside(work), &l);
    for (int i = 0; i < k->steps(s); i++)
        k->sweep(s, i, inside(query), inside(group), inside(work), &l);
    if (k->finish)
        k->finish(s, inside(query), inside(work), &l);
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < (size_t)s->shape.c; c++) {
            const float *sum = l.sum + i * slots * lanes;
            /* is and es: those of pixel 0 are everyone's. */
            const float *weights = els_machine_uses_p(s->machine) ? sum : l.sum;
            double v = 0, weight = 0;

            for (size_t lane = 0; lane < used; lane++) {
                weight += (double)weights[lane];
                v += (double)sum[(1 + c) * lanes + lane];
            }
            x0[i * (size_t)s->shape.c + c] = v / weight / 127.5;
        }
    check_fence(query, "query");
    check_fence(group, "group");
    check_fence(work, "work");
    check_fence(sums, "sums");
    check_fence(m, "m");
    check_fence(floor, "floor");
    check_fence(total, "log_total");
}

/* The sweep of all rows: a pass would cut them into bands. For es of some row displacements. */
static void whole_sweep(const struct els_pass *pass, const struct els_evaluation *e, int round,
                        struct els_sweep *s)
{
    int h = pass->sweep[0].shape.h;

    *s = pass->sweep[0];
    s->band_from = 0;
    s->band_to = e->machine == ELS_MACHINE_IS ? 1 : h;
    if (e->machine == ELS_MACHINE_ES) {
        s->band_from = round % 2 ? h / 3 : 0;
        s->band_to = round % 3 ? h : h - h / 4;
    }
    if (!els_machine_uses_p(e->machine))
        return;
    ck_assert_int_eq(
        els_runs_new(&s->rows, e->machine, e->candidates, s->shape.h, s->r, 0, s->shape.h), 0);
}

/* Of the cases, how many went to the kernel that was asked for, to those of the same name, and to any but C. */
struct taken {
    int itself, name, vector;
};

static struct taken check_kernels(struct domain domain, double allowed)
{
    static double mine[4 * 24 * 24], again[4 * 24 * 24], reference[4 * 24 * 24];
    uint64_t state = 11;
    double worst = 0;
    struct taken taken = {0};

    for (int round = 0; round < domain.cases; round++) {
        struct problem q;
        struct els_pass *pass = NULL;
        const struct els_kernel *kernel;
        struct els_sweep s;
        size_t values;

        random_problem(&q, &domain, &state);
        values = els_shape_values(els_bank_info(q.bank)->shape);
        ck_assert_int_eq(els_pass_new(&pass, &q.e, 0), 0);
        whole_sweep(pass, &q.e, round, &s);
        /* The one whose name is asked for, or the one it leaves the case to. */
        kernel = pass->kernel[0];
        taken.itself += kernel == els_kernel_chosen();
        taken.name += strcmp(kernel->name, els_engine_kernel()) == 0;
        taken.vector += kernel != &els_kernel_c;
        run_group(kernel, &s, &q, 0x00, mine);
        run_group(kernel, &s, &q, 0xff, again);
        ck_assert_mem_eq(mine, again, values * sizeof(*mine));
        if (compares())
            run_group(&els_kernel_c, &s, &q, 0xff, reference);
        for (size_t i = 0; i < values && compares(); i++)
            worst = fmax(worst, fabs(mine[i] - reference[i]));
        ck_assert_msg(worst <= allowed, "round %d: %s differs from c by %g", round, kernel->name,
                      worst);
        els_runs_deinit(&s.rows);
        els_pass_free(pass);
        els_bank_unref(q.bank);
    }
    printf("%s: %d and in all %d of %d cases keep to their buffers", els_engine_kernel(), taken.itself,
           taken.name, domain.cases);
    if (compares())
        printf(", within %.2g of c (allowed %.0e)", worst, allowed);
    printf("\n");
    return taken;
}

START_TEST(test_kernel_keeps_to_its_buffers)
{
    struct domain domain = {
        .cases = CASES,
        .machines = {ELS_MACHINE_LS, ELS_MACHINE_ELS, ELS_MACHINE_BBELS},
        .num_machines = 3,
        .betas = {0.01, 0.1, 0.4, 0.9},
    };

    ck_assert_int_ge(check_kernels(domain, 1e-4).name, domain.cases / 5);
}
END_TEST

/* Where 16 bits of the noisy image are enough. */
START_TEST(test_kernel_keeps_to_its_buffers_at_high_noise)
{
    struct domain domain = {
        .cases = CASES / 2,
        .machines = {ELS_MACHINE_LS, ELS_MACHINE_ELS, ELS_MACHINE_BBELS},
        .num_machines = 3,
        .betas = {0.9, 0.96, 0.98, 0.995},
    };

    ck_assert_int_ge(check_kernels(domain, 1e-4).itself, domain.cases / 5);
}
END_TEST

/*
 * So many displacements that they take several groups of blocks abreast: more blocks than are swept
 * at once, and more than keep what the first cache holds.
 */
START_TEST(test_kernel_keeps_to_its_buffers_in_wide_images)
{
    static const struct size sizes[] = {
        {{1, 17, 17}, 9}, {{1, 5, 32}, 5}, {{1, 3, 64}, 3}, {{3, 4, 40}, 7}, {{2, 2, 90}, 11},
    };
    struct domain domain = {
        .cases = CASES / 2,
        .machines = {ELS_MACHINE_ELS, ELS_MACHINE_BBELS},
        .num_machines = 2,
        .betas = {0.1, 0.9, 0.96, 0.98},
        .sizes = sizes,
        .num_sizes = sizeof(sizes) / sizeof(*sizes),
    };

    ck_assert_int_ge(check_kernels(domain, 1e-4).name, domain.cases / 2);
}
END_TEST

START_TEST(test_kernel_of_whole_images_keeps_to_its_buffers)
{
    struct domain domain = {
        .cases = CASES / 4,
        .machines = {ELS_MACHINE_IS, ELS_MACHINE_ES},
        .num_machines = 2,
        .betas = {0.01, 0.1, 0.4, 0.9},
    };
    int vector = check_kernels(domain, 2e-6).vector;

    /* NEON leaves es to C. */
    ck_assert(strcmp(els_engine_kernel(), "c") == 0 ? vector == 0 : vector >= domain.cases / 3);
}
END_TEST

UNIT_MAIN_PER_KERNEL("kernel", test_kernel_keeps_to_its_buffers,
                     test_kernel_keeps_to_its_buffers_at_high_noise,
                     test_kernel_keeps_to_its_buffers_in_wide_images,
                     test_kernel_of_whole_images_keeps_to_its_buffers)
