/*
 * From options to a checked els_sample_spec: opens the bank, resolves class names, the scales and
 * the number of steps. Called from main's thread before the work starts.
 *
 * Ranges of single options were checked by the option table; what depends on the bank or on two
 * options is checked here or by the library.
 */
#include "server/cli/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "els/mem.h"
#include "els/npy.h"
#include "server/cli/output.h"

#define DEFAULT_SCALES "mnist-resnet-zeros"
#define MAX_NOISE_BYTES ((size_t)4 << 30)

enum { DEFAULT_STEPS = 20, MAX_NAME = 256 };

/* ---- which images ---- */

/* The class named by the `size` characters at `name`. */
static int find_class(const struct els_bank *bank, const char *name, size_t size, int64_t *out,
                      struct els_error *err)
{
    char text[MAX_NAME];

    if (size >= sizeof(text))
        return els_fail(err, ELS_ENOENT, "label", "no class has a name as long as \"%.60s...\"",
                        name);
    snprintf(text, sizeof(text), "%.*s", (int)size, name);
    return els_bank_find_class(bank, text, out, err);
}

static int read_classes(struct els_selection_spec *out, int64_t **classes,
                        const struct els_bank *bank, const char *text, struct els_error *err)
{
    size_t most = strlen(text) + 1, n = 0;
    int r = 0;

    *classes = els_alloc_array(most, sizeof(**classes));
    if (!*classes)
        return els_fail(err, ELS_ENOMEM, "exclude", "out of memory");
    for (const char *at = text; r == 0; at++) {
        size_t size = strcspn(at, ",");

        r = find_class(bank, at, size, &(*classes)[n++], err);
        at += size;
        if (*at == '\0')
            break;
    }
    out->exclude_classes = *classes;
    out->num_exclude_classes = n;
    return r;
}

int cli_selection_read(struct els_selection_spec *out, int64_t **classes,
                       const struct els_bank *bank, const struct cli_choice *choice,
                       struct els_error *err)
{
    int r = 0;

    *out = (struct els_selection_spec){
        .label = -1,
        .max_samples = choice->max_samples,
        .exclude_images = choice->exclude_images.values,
        .num_exclude_images = choice->exclude_images.count,
    };
    if (choice->label)
        r = find_class(bank, choice->label, strlen(choice->label), &out->label, err);
    if (r == 0 && choice->exclude_classes)
        r = read_classes(out, classes, bank, choice->exclude_classes, err);
    return r;
}

/* ---- scales and steps ---- */

static const char *preset_named(const char *text)
{
    for (int i = 0; i < els_scales_num_presets(); i++) {
        if (strcmp(text, els_scales_preset_name(i)) == 0)
            return els_scales_preset_name(i);
    }
    return NULL;
}

static int read_scales(struct cli_spec *s, const char *given, struct els_error *err)
{
    const char *own = els_bank_info(s->spec.bank)->scales, *text = given;

    if (!text && !els_machine_uses_p(s->spec.machine))
        return 0;
    if (!text)
        text = own && *own ? own : DEFAULT_SCALES;
    s->automatic = strcmp(text, "auto") == 0;
    if (s->automatic)
        return 0;
    s->preset = preset_named(text);
    return els_scales_parse(&s->spec.scales, text, err);
}

static int read_steps(struct cli_spec *s, const struct cli_sample_options *o, struct els_error *err)
{
    int64_t list = s->spec.scales.is_list ? s->spec.scales.n : 0;
    int64_t levels = (int64_t)o->alpha_bar.count, n = o->steps;

    if (n == 0)
        n = list ? list : levels ? levels - 1 : DEFAULT_STEPS;
    if (n < 2 || n > ELS_MAX_INFERENCE_STEPS)
        return els_fail(err, ELS_EINVAL, "num_inference_steps",
                        "the list asks for %lld steps; 2 to %d are allowed", (long long)n,
                        ELS_MAX_INFERENCE_STEPS);
    /* A bank's own list serves any number of steps: scales are keyed by t. */
    if (list && list != n && o->scales)
        return els_fail(err, ELS_EINVAL, "scales",
                        "--scales has %lld entries for %lld steps; a list needs one entry per step",
                        (long long)list, (long long)n);
    if (levels && levels != n + 1)
        return els_fail(err, ELS_EINVAL, "noise_schedule",
                        "--alpha-bar has %lld entries for %lld steps; it needs one more than steps",
                        (long long)levels, (long long)n);
    s->spec.num_inference_steps = (int)n;
    return 0;
}

/* ---- the initial noise ---- */

static int take_noise(struct cli_spec *s, const struct els_tensor *x, const char *path,
                      struct els_error *err)
{
    struct els_shape shape = els_bank_info(s->spec.bank)->shape;
    const int64_t *tail = x->dims + (x->ndim == 4);
    int64_t n = x->ndim == 4 ? x->dims[0] : 1;
    char text[96];

    if ((x->ndim != 3 && x->ndim != 4) || n < 1 || n > ELS_MAX_NUM_IMAGES || tail[0] != shape.c ||
        tail[1] != shape.h || tail[2] != shape.w || x->dtype == ELS_U8)
        return els_fail(err, ELS_EINVAL, "noise",
                        "%.120s holds %s %s; it must be floats [N, %d, %d, %d] with N from 1 to %d",
                        path, els_dtype_name(x->dtype),
                        els_tensor_shape_text(x, text, sizeof(text)), shape.c, shape.h, shape.w,
                        ELS_MAX_NUM_IMAGES);
    if (s->spec.num_images && s->spec.num_images != n)
        return els_fail(err, ELS_EINVAL, "noise",
                        "%.120s holds %lld images, but --num-images is %lld", path, (long long)n,
                        (long long)s->spec.num_images);
    s->x_T = els_alloc_array(els_tensor_count(x), sizeof(float));
    if (!s->x_T)
        return els_fail(err, ELS_ENOMEM, "noise", "out of memory");
    els_tensor_to_f32(x, s->x_T);
    s->spec.x_T = s->x_T;
    s->spec.num_images = n;
    return 0;
}

static int read_noise_file(struct cli_spec *s, const char *path, struct els_error *err)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(MAX_NOISE_BYTES);
    struct els_tensor x;
    int r;

    r = cli_read_file(&bytes, path, err);
    if (r == 0)
        r = els_npy_parse(&x, bytes.data, bytes.size, err);
    if (r == 0)
        r = take_noise(s, &x, path, err);
    els_buffer_deinit(&bytes);
    return r;
}

static int read_seed(struct cli_spec *s, int64_t given, struct els_error *err)
{
    uint32_t random;

    if (given >= 0) {
        s->spec.seed = (uint64_t)given;
        return 0;
    }
    /* 32 bits: all that torch's generator uses, and short enough to copy by hand. */
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return els_fail(err, ELS_EIO, "seed", "the system has no random numbers; give --seed");
    s->spec.seed = random;
    return 0;
}

/* ---- outputs ---- */

static int output_bit(const char *word, size_t size)
{
    const char *known;

    for (int i = 0; (known = cli_output_word(i)); i++) {
        if (strlen(known) == size && strncmp(known, word, size) == 0)
            return 1 << i;
    }
    return 0;
}

static int read_outputs(struct cli_spec *s, const char *text, struct els_error *err)
{
    for (const char *at = text; at; at++) {
        size_t size = strcspn(at, ",");
        int bit = output_bit(at, size);

        if (!bit)
            return els_fail(err, ELS_EINVAL, "outputs",
                            "--outputs has \"%.*s\"; it may list image, x0, xt, entropy and mosaic",
                            size < 60 ? (int)size : 60, at);
        s->outputs |= (unsigned)bit;
        at += size;
        if (*at == '\0')
            break;
    }
    s->spec.entropy = (s->outputs & CLI_OUTPUT_ENTROPY) != 0;
    return 0;
}

/* ---- all of it ---- */

static void take_words(struct els_sample_spec *spec, const struct cli_sample_options *o)
{
    spec->machine = (enum els_machine)o->choice.machine;
    spec->candidates = (enum els_candidates)o->choice.candidates;
    spec->noise_schedule = (enum els_schedule)o->choice.noise_schedule;
    spec->start_step = (enum els_start_step)o->start_step;
    spec->sampler = (enum els_sampler_kind)o->sampler;
    spec->noise = (enum els_noise_kind)o->noise;
    spec->tolerance = o->choice.tolerance;
    spec->num_images = o->num_images;
    if (o->alpha_bar.count)
        spec->alpha_bar = o->alpha_bar.values;
}

int cli_spec_read(struct cli_spec *s, const struct cli_sample_options *o, struct els_error *err)
{
    int r;

    *s = (struct cli_spec){.alpha_bar_count = o->alpha_bar.count};
    els_sample_spec_init(&s->spec);
    take_words(&s->spec, o);
    r = read_outputs(s, o->outputs, err);
    if (r == 0)
        r = els_bank_open(&s->spec.bank, o->choice.bank, err);
    if (r == 0)
        r = cli_selection_read(&s->spec.selection, &s->exclude_classes, s->spec.bank, &o->choice,
                               err);
    if (r == 0)
        r = read_scales(s, o->scales, err);
    if (r == 0)
        r = read_steps(s, o, err);
    if (r == 0)
        r = read_seed(s, o->seed, err);
    if (r == 0 && o->noise_file)
        r = read_noise_file(s, o->noise_file, err);
    if (r == 0 && s->automatic && els_machine_uses_p(s->spec.machine))
        r = cli_scales_auto(s, &o->choice, err);
    if (s->spec.num_images == 0)
        s->spec.num_images = 1;
    return r;
}

void cli_spec_deinit(struct cli_spec *s)
{
    els_scales_deinit(&s->spec.scales);
    els_bank_unref(s->spec.bank);
    free(s->exclude_classes);
    free(s->x_T);
    *s = (struct cli_spec){0};
}
