/*
 * els denoise: the posterior mean of noisy images at one noise level, without a reverse process
 * around it. Runs on main's thread and a pool.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/npy.h"
#include "server/cli/commands.h"
#include "server/cli/output.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

enum { MAX_HEADER = 4096, AS_X0 = 0, AS_SCORE, AS_EPS };

#define MAX_X_BYTES ((size_t)4 << 30)

struct options {
    struct cli_choice choice;
    const char *x;
    struct cli_integers p;
    double t, alpha_bar; /* −1: not given */
    int as;
};

static const char *as_word(int i)
{
    static const char *const words[] = {[AS_X0] = "x0", [AS_SCORE] = "score", [AS_EPS] = "eps"};

    return i < (int)(sizeof(words) / sizeof(*words)) ? words[i] : NULL;
}

static const struct cli_option denoise_options[] = {
    {"x", 'x', "X.npy", CLI_TEXT, offsetof(struct options, x), .required = 1,
     .help = "the noisy images, floats [B,C,H,W] or [C,H,W]"},
    {"t", 't', "T", CLI_REAL, offsetof(struct options, t), 0, 1,
     .help = "the time, which --noise-schedule turns into a noise level"},
    {"alpha-bar", 0, "A", CLI_REAL, offsetof(struct options, alpha_bar), 0, 1,
     .help = "the noise level itself, instead of --t: the variance of the noise is 1-A"},
    {"p", 'p', "P,P,...", CLI_INTEGERS, offsetof(struct options, p), 1, ELS_MAX_P,
     .help = "locality scales, odd; several cost little more than one; is and es take none"},
    {"as", 0, "WHAT", CLI_WORD, offsetof(struct options, as), .word = as_word,
     .help = "the clean image's estimate, the score, or the noise's estimate"},
    {0},
};

static const struct cli_option *const tables[] = {denoise_options, cli_choice_options, NULL};

static const char *const examples[] = {
    "the estimate at three scales, [3,B,C,H,W]",
    "els denoise -x x.npy -t 0.35 -p 3,7,15 -o x0.npy",
    "the ideal machine's score",
    "els denoise --machine is -x x.npy -t 0.1 --as score -o score.npy",
    NULL,
};

static const struct cli_command command = {
    .name = "denoise",
    .operands = "",
    .summary = "one evaluation of a score machine on noisy images",
    .details = "The result is a .npy, float32: [K,B,C,H,W] for K scales, [B,C,H,W] for one, and "
               "without B when the input had none.",
    .tables = tables,
    .examples = examples,
};

/* One run: what was asked, and the memory that it needs. */
struct run {
    const struct options *o;
    struct els_bank *bank;
    struct els_tensor input; /* as it came */
    int64_t batch;
    float *x, *x0; /* [B,C,H,W], [K,B,C,H,W] */
    int p[ELS_MAX_P_COUNT], num_p;
    int64_t *images, num_images, *classes;
    double alpha_bar, beta;
};

static int read_level(struct run *r, struct els_error *err)
{
    const struct options *o = r->o;
    enum els_schedule schedule = (enum els_schedule)o->choice.noise_schedule;

    if ((o->t >= 0) == (o->alpha_bar >= 0))
        return els_fail(err, ELS_EINVAL, "t", "give either --t or --alpha-bar");
    r->alpha_bar = o->t >= 0 ? els_schedule_alpha_bar(schedule, o->t) : o->alpha_bar;
    r->beta = o->t >= 0 ? els_schedule_beta(schedule, o->t) : 1 - o->alpha_bar;
    if (!(r->alpha_bar > 0 && r->beta >= ELS_MIN_BETA_ALONE))
        return els_fail(
            err, ELS_EINVAL, "t",
            "the noise level has alpha_bar = %.9g and beta = %.3g; alpha_bar must be above 0 and "
            "beta at least %g",
            r->alpha_bar, r->beta, ELS_MIN_BETA_ALONE);
    return 0;
}

static int read_p(struct run *r, struct els_error *err)
{
    enum els_machine machine = (enum els_machine)r->o->choice.machine;
    const struct cli_integers *p = &r->o->p;
    int status = 0;

    if (!els_machine_uses_p(machine)) {
        r->p[0] = 1;
        r->num_p = 1;
        return 0;
    }
    if (p->count < 1 || p->count > ELS_MAX_P_COUNT)
        return els_fail(err, ELS_EINVAL, "p", "--p has %zu scales; the machine %s takes 1 to %d",
                        p->count, els_machine_name(machine), ELS_MAX_P_COUNT);
    r->num_p = (int)p->count;
    for (int k = 0; k < r->num_p && status == 0; k++) {
        r->p[k] = (int)p->values[k];
        status = els_machine_check_p(machine, els_bank_info(r->bank)->shape, r->p[k], err);
    }
    return status;
}

static int take_x(struct run *r, struct els_error *err)
{
    const struct els_tensor *x = &r->input;
    struct els_shape shape = els_bank_info(r->bank)->shape;
    const int64_t *tail = x->dims + (x->ndim == 4);
    char text[96];

    r->batch = x->ndim == 4 ? x->dims[0] : 1;
    if ((x->ndim != 3 && x->ndim != 4) || r->batch < 1 || tail[0] != shape.c ||
        tail[1] != shape.h || tail[2] != shape.w || x->dtype == ELS_U8)
        return els_fail(err, ELS_EINVAL, "x",
                        "%.120s holds %s %s; it must be floats [B, %d, %d, %d] or [%d, %d, %d]",
                        r->o->x, els_dtype_name(x->dtype),
                        els_tensor_shape_text(x, text, sizeof(text)), shape.c, shape.h, shape.w,
                        shape.c, shape.h, shape.w);
    r->x = els_alloc_array(els_tensor_count(x), sizeof(float));
    if (!r->x)
        return els_fail(err, ELS_ENOMEM, "x", "out of memory");
    els_tensor_to_f32(x, r->x);
    return 0;
}

static int read_x(struct run *r, struct els_error *err)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(MAX_X_BYTES);
    int status = cli_read_file(&bytes, r->o->x, err);

    if (status == 0)
        status = els_npy_parse(&r->input, bytes.data, bytes.size, err);
    if (status == 0)
        status = take_x(r, err);
    /* The values are copied; only the dimensions are looked at from here on. */
    r->input.data = NULL;
    els_buffer_deinit(&bytes);
    return status;
}

static size_t values_per_p(const struct run *r)
{
    return (size_t)r->batch * els_shape_values(els_bank_info(r->bank)->shape);
}

static int evaluate(struct run *r, struct els_pool *pool, struct els_error *err)
{
    const struct cli_choice *c = &r->o->choice;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};
    struct els_evaluation e = {
        .bank = r->bank,
        .images = r->images,
        .num_images = r->num_images,
        .machine = (enum els_machine)c->machine,
        .candidates = (enum els_candidates)c->candidates,
        .num_p = r->num_p,
        .p = r->p,
        .alpha_bar = r->alpha_bar,
        .beta = r->beta,
        .tolerance = c->tolerance,
        .batch = r->batch,
        .x = r->x,
    };
    struct els_answer answer = {0};
    int status;

    r->x0 = els_alloc_array((size_t)r->num_p, values_per_p(r) * sizeof(float));
    if (!r->x0)
        return els_fail(err, ELS_ENOMEM, "x", "out of memory");
    answer.x0 = r->x0;
    cli_progress_begin(&progress, NULL, 1, c->quiet);
    status = els_evaluate(&e, pool, &watch, &answer, err);
    cli_progress_end(&progress);
    return status;
}

/* x̂0 into what was asked for, in place (eq. 3). */
static void convert(struct run *r)
{
    size_t n = values_per_p(r);

    for (int k = 0; k < r->num_p; k++) {
        float *at = r->x0 + (size_t)k * n;

        if (r->o->as == AS_SCORE)
            els_score_from_x0(at, at, r->x, n, r->alpha_bar, r->beta);
        else if (r->o->as == AS_EPS)
            els_epsilon_from_x0(at, at, r->x, n, r->alpha_bar, r->beta);
    }
}

static int write_result(const struct run *r, struct cli_output *file, struct els_error *err)
{
    struct els_buffer header = ELS_BUFFER_INIT(MAX_HEADER);
    int64_t dims[1 + ELS_TENSOR_MAX_DIMS];
    int ndim = 0, status;

    if (r->num_p > 1)
        dims[ndim++] = r->num_p;
    for (int i = 0; i < r->input.ndim; i++)
        dims[ndim++] = r->input.dims[i];
    status = els_npy_write_header(&header, ELS_F32, ndim, dims);
    if (status < 0)
        els_fail(err, status, "output", "cannot make the header: %s", els_status_text(status));
    if (status == 0)
        status = cli_output_write(file, header.data, header.size, err);
    if (status == 0)
        status =
            cli_output_write(file, r->x0, (size_t)r->num_p * values_per_p(r) * sizeof(float), err);
    if (status == 0)
        status = cli_output_commit(file, err);
    els_buffer_deinit(&header);
    return status;
}

static int read_all(struct run *r, struct els_error *err)
{
    const struct cli_choice *c = &r->o->choice;
    struct els_selection_spec selection;
    int status = cli_check_ending(c->output, ".npy", err);

    if (status == 0)
        status = read_level(r, err);
    if (status == 0 && c->cpu)
        status = els_engine_use_kernel(c->cpu, err);
    if (status == 0)
        status = els_bank_open(&r->bank, c->bank, err);
    if (status == 0)
        status = read_p(r, err);
    if (status == 0)
        status = read_x(r, err);
    if (status == 0)
        status = cli_selection_read(&selection, &r->classes, r->bank, c, err);
    if (status == 0)
        status = els_bank_select(r->bank, &selection, &r->images, &r->num_images, err);
    return status;
}

static int denoise(const struct options *o, struct els_error *err)
{
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_pool *pool = NULL;
    struct run r = {.o = o};
    int status = read_all(&r, err);

    if (status < 0)
        goto out;
    status = cli_pool_new(&pool, o->choice.threads, err);
    if (status < 0)
        goto out;
    status = cli_output_open(&file, o->choice.output, err);
    if (status == 0)
        status = evaluate(&r, pool, err);
    if (status == 0) {
        convert(&r);
        status = write_result(&r, &file, err);
    }
out:
    cli_output_deinit(&file);
    els_pool_free(pool);
    els_bank_unref(r.bank);
    free(r.x);
    free(r.x0);
    free(r.images);
    free(r.classes);
    return status;
}

int cli_denoise(int argc, char **argv)
{
    struct options o = {.choice = CLI_CHOICE_DEFAULTS, .t = -1, .alpha_bar = -1};
    struct els_error err = {0};
    int status;

    if (cli_parse(&command, argc, argv, &o, &status) < 0)
        return status;
    status = denoise(&o, &err);
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    cli_options_deinit(&command, &o);
    return status;
}
