/*
 * The mosaic: a scan's nearest candidates as weights, and the regions that they form. Called by the thread that owns
 * the result; the scan spreads over the pool. Holds no state.
 *
 * The posterior is that of eq. 3–10 and 41: w_c ∝ exp(−‖x_Ω − a·y_c‖²/2β). A scan gives Σ e^z and Σ e^z·z with
 * z = (least − ‖x_Ω − a·y_c‖²)/2β, so w_c = e^{z_c}/s and the entropy is ln s − u/s.
 */
#include "els/mosaic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/evaluation.h"
#include "core/scan/scan.h"
#include "core/theory/geometry.h"
#include "els/mem.h"

static int check(const struct els_evaluation *e, int top, struct els_error *err)
{
    int r = els_evaluation_check(e, err);

    if (r < 0)
        return r;
    if (e->batch != 1)
        return els_fail(err, ELS_EINVAL, "x", "x holds %lld images; a mosaic takes 1.",
                        (long long)e->batch);
    if (e->num_p != 1)
        return els_fail(err, ELS_EINVAL, "p", "p lists %d scales; a mosaic takes 1.", e->num_p);
    if (top < 1 || top > ELS_MAX_TOP)
        return els_fail(err, ELS_EINVAL, "top", "top is %d; it must be 1 to %d.", top, ELS_MAX_TOP);
    return 0;
}

/* ---- weights ---- */

static int wrap(int i, int n)
{
    return ((i % n) + n) % n;
}

static void take_candidates(struct els_mosaic *m, const struct els_evaluation *e,
                            const struct els_scan *scan)
{
    int shared = !els_machine_uses_p(e->machine);
    double inverse = 1 / (2 * e->beta);

    for (int at = 0; at < m->height * m->width; at++) {
        size_t q = shared ? 0 : (size_t)at;
        double h = log(scan->s[q]) - scan->u[q] / scan->s[q];

        m->entropy[at] = h > 0 ? h : 0;
        for (int k = 0; k < m->top; k++) {
            const struct els_found *from = &scan->found[q * (size_t)m->top + (size_t)k];
            struct els_candidate *to = &m->candidate[at * m->top + k];

            *to = (struct els_candidate){
                .image = from->image, .row = from->row, .column = from->column};
            if (from->image < 0)
                continue;
            to->weight = exp((scan->least[q] - from->distance) * inverse) / scan->s[q];
            if (shared) {
                to->row = wrap(from->row + at / m->width, m->height);
                to->column = wrap(from->column + at % m->width, m->width);
            }
        }
    }
}

/* ---- regions ---- */

struct origin {
    int64_t image;
    int down, right; /* displacement */
};

static struct origin origin_of(const struct els_mosaic *m, int at)
{
    const struct els_candidate *c = &m->candidate[at * m->top];
    struct origin o = {c->image, c->row - at / m->width, c->column - at % m->width};

    if (m->wraps) {
        o.down = wrap(o.down, m->height);
        o.right = wrap(o.right, m->width);
    }
    return o;
}

static int same(struct origin a, struct origin b)
{
    return a.image == b.image && a.down == b.down && a.right == b.right;
}

/* Gives all pixels of the region around `seed` its number; `stack` has room for every pixel. */
static void fill(struct els_mosaic *m, const struct origin *origin, int seed, int number,
                 int *stack)
{
    int depth = 0;

    stack[depth++] = seed;
    m->region[seed] = number;
    while (depth > 0) {
        int at = stack[--depth], j = at % m->width;
        const int next[] = {at - m->width, at + m->width, j > 0 ? at - 1 : -1,
                            j + 1 < m->width ? at + 1 : -1};

        for (int k = 0; k < 4; k++)
            if (next[k] >= 0 && next[k] < m->height * m->width && m->region[next[k]] < 0 &&
                same(origin[next[k]], origin[seed])) {
                m->region[next[k]] = number;
                stack[depth++] = next[k];
            }
    }
}

static int find_regions(struct els_mosaic *m)
{
    int pixels = m->height * m->width;
    _cleanup_(els_freep) struct origin *origin = els_alloc_array((size_t)pixels, sizeof(*origin));
    _cleanup_(els_freep) int *stack = els_alloc_array((size_t)pixels, sizeof(*stack));

    if (!origin || !stack)
        return ELS_ENOMEM;
    for (int at = 0; at < pixels; at++) {
        origin[at] = origin_of(m, at);
        m->region[at] = -1;
    }
    for (int at = 0; at < pixels; at++)
        if (m->region[at] < 0)
            fill(m, origin, at, m->num_regions++, stack);
    return 0;
}

/* ---- the face ---- */

static int wraps_sources(const struct els_evaluation *e)
{
    return els_machine_wraps(e->machine) &&
           !(e->machine == ELS_MACHINE_ELS && e->candidates == ELS_CANDIDATES_VALID);
}

static int make(struct els_mosaic *m, const struct els_evaluation *e, struct els_pool *pool,
                const struct els_progress *progress)
{
    size_t pixels = (size_t)m->height * (size_t)m->width;
    struct els_scan scan = {0};
    struct els_scan_question q = {
        .bank = e->bank,
        .images = e->images,
        .num_images = e->num_images,
        .machine = e->machine,
        .candidates = e->candidates,
        .p = els_machine_uses_p(e->machine) ? e->p[0] : 1,
        .a = sqrt(e->alpha_bar),
        .beta = e->beta,
        .x = e->x,
        .top = m->top,
    };
    int r;

    m->wraps = wraps_sources(e);
    m->candidate = els_alloc_array(pixels * (size_t)m->top, sizeof(*m->candidate));
    m->entropy = els_alloc_array(pixels, sizeof(*m->entropy));
    m->region = els_alloc_array(pixels, sizeof(*m->region));
    if (!m->candidate || !m->entropy || !m->region)
        return ELS_ENOMEM;
    r = els_scan_run(&scan, &q, pool, progress);
    if (r < 0)
        return r;
    take_candidates(m, e, &scan);
    els_scan_deinit(&scan);
    return find_regions(m);
}

int els_mosaic_new(struct els_mosaic **out, const struct els_evaluation *evaluation, int top,
                   struct els_pool *pool, const struct els_progress *progress, struct els_error *err)
{
    struct els_shape shape = els_bank_info(evaluation->bank)->shape;
    struct els_mosaic *m = NULL;
    int r = check(evaluation, top, err);

    if (r < 0)
        return r;
    m = els_alloc_array(1, sizeof(*m));
    if (m)
        *m = (struct els_mosaic){.height = shape.h, .width = shape.w, .top = top};
    r = m ? make(m, evaluation, pool, progress) : ELS_ENOMEM;
    if (r < 0) {
        els_mosaic_free(m);
        return els_fail(err, r, NULL, "The mosaic failed: %s.", els_status_text(r));
    }
    *out = m;
    return 0;
}

struct els_mosaic *els_mosaic_free(struct els_mosaic *m)
{
    if (!m)
        return NULL;
    free(m->candidate);
    free(m->entropy);
    free(m->region);
    free(m);
    return NULL;
}

const struct els_candidate *els_mosaic_at(const struct els_mosaic *m, int i, int j, int k)
{
    return &m->candidate[(i * m->width + j) * m->top + k];
}

size_t els_mosaic_memory(const struct els_evaluation *e, int top, int threads)
{
    struct els_scan_question windows = {.bank = e->bank, .machine = e->machine, .candidates = e->candidates,
                                        .p = els_machine_uses_p(e->machine) ? e->p[0] : 1, .top = top},
                             whole = {.bank = e->bank, .machine = ELS_MACHINE_ES, .top = 1};
    struct els_shape shape = els_bank_info(e->bank)->shape;
    size_t pixels = (size_t)shape.h * (size_t)shape.w, a = els_scan_bytes(&windows, threads),
           b = els_scan_bytes(&whole, threads);

    return (a > b ? a : b) + pixels * ((size_t)top * sizeof(struct els_candidate) + sizeof(double) + 4 * sizeof(int));
}
