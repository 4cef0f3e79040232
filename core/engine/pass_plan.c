/*
 * Cuts an evaluation into chains and bands; see pass.h for the partition and why it must not
 * depend on threads, batch or scales. Called once per evaluation, by its one thread.
 */
#include "core/engine/pass_internal.h"

#include <math.h>
#include <stdlib.h>

#include "els/mem.h"

enum {
    MAX_BLOCK = 8, /* of displacements, of any kernel */
    MAX_CHAINS = 64,
    CHAIN_GROUPS = 8, /* a chain's start costs about a tenth of a group */
    MIN_ITEMS = 16,   /* with fewer chains, rows are cut into bands */
    MIN_BAND_ROWS = 4,
    MAX_BAND_PAIRS = 1 << 22, /* rows·W² of a band: one run of rows stays far below 50 ms */
};

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int divide_up(int64_t a, int64_t b)
{
    return (int)((a + b - 1) / b);
}

size_t els_pass_lane_floats(const struct els_pass *pass, const struct els_sweep *s)
{
    int rows = els_machine_uses_p(s->machine) ? s->band_to - s->band_from : s->shape.h;

    return (size_t)rows * (size_t)s->shape.w * (size_t)s->slots * (size_t)pass->lanes;
}

size_t els_pass_part_pixels(const struct els_sweep *s)
{
    int rows = els_machine_uses_p(s->machine) ? s->band_to - s->band_from : s->shape.h;

    return (size_t)rows * (size_t)s->shape.w;
}

/*
 * Rows per band: small enough for memory and for frequent calls of the progress callback, and more bands when
 * chains are few.
 */
static int band_rows(const struct els_pass *pass, const struct els_kernel *first, int slots,
                     int length)
{
    struct els_shape shape = els_bank_info(pass->e->bank)->shape;
    int64_t row_bytes = (int64_t)shape.w * slots * pass->lanes * (int64_t)sizeof(float);
    int rows = length, translates = !els_machine_uses_p(pass->e->machine);

    if (translates && first != &els_kernel_c)
        return length; /* transforms have all translates at once: a band would spare nothing */
    if (!translates) {
        rows = min_int(rows, max_int(1, (int)(ELS_WORKER_BYTES / row_bytes)));
        rows = min_int(rows, max_int(MIN_BAND_ROWS, MAX_BAND_PAIRS / (shape.w * shape.w)));
    }
    if (pass->chains < MIN_ITEMS)
        rows = min_int(
            rows, max_int(MIN_BAND_ROWS, divide_up((int64_t)length * pass->chains, MIN_ITEMS)));
    return rows;
}

static void plan_windows(struct els_sweep *s)
{
    /*
     * A window that passes the image on both sides is the whole image: no radius needs to be
     * larger.
     */
    s->rh = min_int(s->r, s->shape.h - 1);
    s->rw = min_int(s->r, s->shape.w - 1);
    s->wraps = els_machine_wraps(s->machine);
}

static void plan_translates(const struct els_evaluation *e, struct els_sweep *s)
{
    s->wraps = els_machine_wraps(e->machine);
    s->rh = 0;
    s->rw = s->wraps ? s->shape.w / 2 : 0;
}

/*
 * ln(2M/ε), see kernel.h: every candidate skipped weighs at most e^(m − cut), and one weighs e^m.
 * M also counts the places that an integer kernel adds with the weight of skipped candidates: less
 * than a block each beyond a row's ends, and in the block that is not full.
 */
static double cut_for(const struct els_evaluation *e, double candidates_per_image)
{
    double allowed = fmax(e->tolerance, 0x1p-26); /* half a unit in float32's last place at 1 */

    return log(2.0 * candidates_per_image * (double)e->num_images / allowed);
}

static int plan_sweep(struct els_pass *pass, struct els_sweep *s, int p, int band, int rows,
                      int entropy)
{
    const struct els_evaluation *e = pass->e;
    struct els_shape shape = els_bank_info(e->bank)->shape;
    int translates = !els_machine_uses_p(e->machine);
    int length = translates && e->machine == ELS_MACHINE_IS ? 1 : shape.h;

    *s = (struct els_sweep){
        .bank = e->bank,
        .images = e->images,
        .num_images = e->num_images,
        .shape = shape,
        .machine = e->machine,
        .candidates = e->candidates,
        .r = p / 2,
        .band_from = band * rows,
        .band_to = min_int(length, (band + 1) * rows),
        .scale = sqrt(e->alpha_bar) / e->beta,
        .bias = e->alpha_bar / (2.0 * e->beta),
        .cut = cut_for(e, (double)shape.h * (shape.w + 3 * MAX_BLOCK)),
        .slots = 1 + shape.c + (entropy ? 1 : 0),
        .entropy = entropy,
    };
    if (translates) {
        plan_translates(e, s);
        return 0;
    }
    plan_windows(s);
    if (els_runs_new(&s->rows, e->machine, e->candidates, shape.h, s->r, s->band_from, s->band_to) <
        0)
        return ELS_ENOMEM;
    return els_runs_new(&s->cols, e->machine, e->candidates, shape.w, s->r, 0, shape.w);
}

/* The most sources that a query of one axis can take. */
static int most_sources(const struct els_evaluation *e, int n, int r)
{
    int most = 0;

    for (int i = 0; i < n; i++) {
        int from, to;

        els_sources_of(e->machine, e->candidates, n, r, i, &from, &to);
        most = max_int(most, to - from);
    }
    return most;
}

static int64_t most_candidates(const struct els_evaluation *e)
{
    struct els_shape shape = els_bank_info(e->bank)->shape;
    int64_t most = 1;

    if (e->machine == ELS_MACHINE_ES)
        return (int64_t)shape.h * shape.w;
    for (int k = 0; e->machine != ELS_MACHINE_IS && k < e->num_p; k++) {
        int64_t n =
            (int64_t)most_sources(e, shape.h, e->p[k] / 2) * most_sources(e, shape.w, e->p[k] / 2);

        most = n > most ? n : most;
    }
    return most;
}

static int64_t pairs_that_fit(const struct els_pass *pass)
{
    struct els_shape shape = els_bank_info(pass->e->bank)->shape;
    size_t image = els_posterior_bytes((size_t)shape.h * (size_t)shape.w, shape.c);
    size_t lanes = els_pass_lane_floats(pass, &pass->sweep[0]) * sizeof(float);
    int64_t by_parts = (int64_t)(ELS_PARTS_BYTES / (image * (size_t)pass->chains));
    int64_t by_lanes = (int64_t)(ELS_WORKER_BYTES / lanes);
    int64_t fit = by_parts < by_lanes ? by_parts : by_lanes;

    return fit > 0 ? fit : 1;
}

/* The first kernel from `first` on that takes the sweep of this noisy image; NULL: none does. */
static const struct els_kernel *kernel_for(const struct els_kernel *first,
                                           const struct els_sweep *s, const float *x)
{
    while (first && !first->accepts(s, x))
        first = first->otherwise;
    return first;
}

/*
 * Every pair by itself, so that an image's result does not depend on those beside it. 0 when some
 * pair has none.
 */
static int choose_kernels(struct els_pass *pass, const struct els_kernel *first)
{
    const struct els_evaluation *e = pass->e;
    int64_t candidates = most_candidates(e);
    size_t values = els_shape_values(els_bank_info(e->bank)->shape);

    for (int64_t i = 0; i < e->num_p * e->batch; i++) {
        const struct els_sweep *s = &pass->sweep[i / e->batch * pass->bands];

        pass->kernel[i] = kernel_for(first, s, e->x + (size_t)(i % e->batch) * values);
        if (!pass->kernel[i])
            return 0;
        /* Pairs with kernels of their own leave it to `candidates`: it is the same for all. */
        pass->max_adds = pass->kernel[i]->max_adds ? pass->kernel[i]->max_adds : candidates;
    }
    return 1;
}

/* With `first`, or where it does not accept, with another. ELS_ENOENT: some pair is left over. */
static int plan(struct els_pass *pass, const struct els_kernel *first, int entropy)
{
    const struct els_evaluation *e = pass->e;
    struct els_shape shape = els_bank_info(e->bank)->shape;
    size_t image = els_posterior_bytes((size_t)shape.h * (size_t)shape.w, shape.c);
    int length = e->machine == ELS_MACHINE_IS ? 1 : shape.h;
    int rows;

    pass->lanes = first->lanes;
    pass->groups = divide_up(e->num_images, pass->lanes);
    pass->chains = max_int(1, min_int(MAX_CHAINS, (int)(ELS_PARTS_BYTES / 4 / image)));
    if (pass->groups < pass->chains * CHAIN_GROUPS)
        pass->chains =
            max_int(min_int(pass->chains, MIN_ITEMS), divide_up(pass->groups, CHAIN_GROUPS));
    if (pass->groups < pass->chains)
        pass->chains = (int)pass->groups;
    /* As if the entropy were wanted: asking for it must not change x̂0. */
    rows = band_rows(pass, first, 2 + shape.c, length);
    pass->bands = divide_up(length, rows);
    pass->sweep = els_alloc_array((size_t)e->num_p * (size_t)pass->bands, sizeof(*pass->sweep));
    pass->kernel = els_alloc_array((size_t)(e->num_p * e->batch), sizeof(struct els_kernel *));
    if (!pass->sweep || !pass->kernel)
        return ELS_ENOMEM;
    for (int k = 0; k < e->num_p; k++)
        for (int b = 0; b < pass->bands; b++) {
            int r = plan_sweep(pass, &pass->sweep[k * pass->bands + b], e->p[k], b, rows, entropy);

            if (r < 0)
                return r;
        }
    pass->pairs_at_once = pairs_that_fit(pass);
    return choose_kernels(pass, first) ? 0 : ELS_ENOENT;
}

static void forget_plan(struct els_pass *pass)
{
    for (int i = 0; pass->sweep && i < pass->e->num_p * pass->bands; i++) {
        els_runs_deinit(&pass->sweep[i].rows);
        els_runs_deinit(&pass->sweep[i].cols);
    }
    free(pass->sweep);
    free(pass->kernel);
    pass->sweep = NULL;
    pass->kernel = NULL;
}

int els_pass_new(struct els_pass **out, const struct els_evaluation *e, int entropy)
{
    struct els_pass *pass = els_alloc_array(1, sizeof(*pass));
    int r;

    if (!pass)
        return ELS_ENOMEM;
    pass->e = e;
    r = plan(pass, els_kernel_chosen(), entropy);
    if (r == ELS_ENOENT) {
        forget_plan(pass);
        r = plan(pass, &els_kernel_c, entropy);
    }
    if (r < 0) {
        els_pass_free(pass);
        return r;
    }
    *out = pass;
    return 0;
}

struct els_pass *els_pass_free(struct els_pass *pass)
{
    if (!pass)
        return NULL;
    forget_plan(pass);
    free(pass);
    return NULL;
}

int64_t els_pass_pairs_at_once(const struct els_pass *pass)
{
    return pass->pairs_at_once;
}
