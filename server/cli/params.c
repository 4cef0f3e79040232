/*
 * The resolved parameters of a sample as JSON, in the shape of the HTTP contract's `params`. Called
 * from main's thread. Files of the command line carry them, so that any of them can be made again:
 * by the daemon from the JSON as it stands (initial noise from a file travels as the tensor `x_T`
 * beside it).
 */
#include "server/cli/json_text.h"
#include "server/cli/spec.h"

/* jansson's constructors return NULL when out of memory; so does every function below. */

/* A preset by its name; anything else as pairs, which mean the same for any number of steps. */
static json_t *scales_value(const struct cli_spec *s)
{
    const struct els_scales *from = &s->spec.scales;

    if (s->preset)
        return json_string(s->preset);
    if (from->n == 0)
        return json_null();
    return cli_json_scales(from);
}

static json_t *schedule_value(const struct cli_spec *s)
{
    if (s->spec.alpha_bar)
        return json_pack("{s:o}", "alpha_bar",
                         cli_json_reals(s->spec.alpha_bar, s->alpha_bar_count));
    return json_string(els_schedule_name(s->spec.noise_schedule));
}

static json_t *exclude_value(const struct els_selection_spec *from)
{
    if (from->num_exclude_images == 0 && from->num_exclude_classes == 0)
        return json_null();
    return json_pack("{s:o, s:o}", "images",
                     cli_json_integers(from->exclude_images, from->num_exclude_images), "classes",
                     cli_json_integers(from->exclude_classes, from->num_exclude_classes));
}

static json_t *outputs_value(unsigned outputs)
{
    json_t *list = json_array();
    const char *word;

    for (int i = 0; list && (word = cli_output_word(i)); i++) {
        if ((outputs & 1u << i) && json_array_append_new(list, json_string(word)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *positive_or_null(int64_t n)
{
    return n > 0 ? json_integer(n) : json_null();
}

char *cli_params_json(const struct cli_spec *s)
{
    const struct els_sample_spec *spec = &s->spec;
    const struct els_selection_spec *from = &spec->selection;
    json_t *root;
    char *text = NULL;

    root = json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:i, s:s, s:s, s:o, s:o, s:I, s:o, s:s, s:o, s:f, s:o}", "bank",
        els_bank_info(spec->bank)->name, "machine", els_machine_name(spec->machine), "candidates",
        els_candidates_name(spec->candidates), "label",
        from->label < 0 ? json_null() : json_integer(from->label), "num_images",
        (json_int_t)spec->num_images, "num_inference_steps", spec->num_inference_steps,
        "start_step", spec->start_step == ELS_START_FULL ? "full" : "paper", "sampler",
        spec->sampler == ELS_DDPM ? "ddpm" : "ddim", "noise_schedule", schedule_value(s), "scales",
        scales_value(s), "seed", (json_int_t)spec->seed, "exclude", exclude_value(from), "noise",
        spec->x_T ? "x_T" : els_noise_name(spec->noise), "max_samples",
        positive_or_null(from->max_samples), "tolerance", spec->tolerance, "outputs",
        outputs_value(s->outputs));
    if (root)
        text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(root);
    return text;
}
