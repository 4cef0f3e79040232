/*
 * The rows of the fields that several kinds of job share, and the readers of the simple ones. params.c walks a kind's
 * list of them from any back-room thread; scales and tensors have files of their own.
 *
 * A reader gets the value that the body holds, or the row's default. It stores what it read in the
 * srv_params and sets the resolved JSON; or it adds a fault that names the value and what is allowed.
 * What depends on several fields (the number of steps, the range of seeds) is settled by
 * the kind when all have been read.
 */
#include "server/params/params_fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

struct beginning {
    char *text;
    size_t size, max;
};

/* For json_dump_callback: keeps what there is room for, and then ends the dump, for a value may be as long as the
 * body. (json_dumpb leaves out whatever piece does not fit as a whole.) */
static int keep_beginning(const char *piece, size_t size, void *user)
{
    struct beginning *b = user;
    size_t room = b->max - b->size, n = size < room ? size : room;

    memcpy(b->text + b->size, piece, n);
    b->size += n;
    return n < size ? -1 : 0;
}

const char *srv_value_text(const json_t *value, char out[SRV_VALUE_TEXT])
{
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII;
    struct beginning b = {.text = out, .max = SRV_VALUE_TEXT - 1};

    if (json_dump_callback(value, keep_beginning, &b, flags) < 0 && b.size == b.max)
        memcpy(out + b.size - 3, "...", 3);
    out[b.size] = '\0';
    return out;
}

const char *srv_pointer(char out[96], const char *parent, const char *name)
{
    size_t n = (size_t)snprintf(out, 96, "%s/", parent);

    for (; *name && n + 3 < 96; name++) {
        if (*name == '~' || *name == '/') {
            out[n++] = '~';
            out[n++] = *name == '~' ? '0' : '1';
        } else {
            out[n++] = *name;
        }
    }
    out[n] = '\0';
    return out;
}

bool srv_whole(const json_t *value, int64_t *out)
{
    double x;

    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value))
        return false;
    x = json_real_value(value);
    /* Beyond 2^53 a real no longer says which whole number was meant. */
    if (x != floor(x) || fabs(x) > (double)ELS_MAX_SEED)
        return false;
    *out = (int64_t)x;
    return true;
}

int srv_resolve(struct srv_reading *r, const char *name, json_t *value)
{
    if (!value || json_object_set_new(r->resolved, name, value) < 0)
        return srv_fault_memory(r->faults);
    return 0;
}

int64_t srv_field_max(const struct srv_field *f, const struct srv_limits *limits)
{
    int64_t limit = f->limit ? f->limit(limits) : f->max;

    return limit < f->max ? limit : f->max;
}

/* ---- words and numbers ---- */

int srv_read_choice(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char all[160] = "", text[SRV_VALUE_TEXT], pointer[96];
    size_t used = 0;
    const char *word;

    for (int i = 0; (word = f->choice(r->params->kind, i)); i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), word) == 0) {
            /* An enum of C is as wide as an int here; params.c asserts it. */
            memcpy((char *)r->params + f->target, &i, sizeof(i));
            return srv_resolve(r, f->name, json_string(word));
        }
        if (used < sizeof(all))
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", word);
    }
    snprintf(pointer, sizeof(pointer), "/%s", f->name);
    return srv_fault(r->faults, pointer, "%s is %s; it must be one of: %s.", f->name,
                     srv_value_text(value, text), all);
}

int srv_read_integer(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t max = srv_field_max(f, &r->source->limits), n = 0;
    char text[SRV_VALUE_TEXT], pointer[96];

    if (!json_is_null(value) || strcmp(f->fallback, "null") != 0) {
        if (!srv_whole(value, &n) || n < f->min || n > max) {
            snprintf(pointer, sizeof(pointer), "/%s", f->name);
            return srv_fault(r->faults, pointer, "%s is %s; it must be a whole number from %lld to %lld.",
                             f->name, srv_value_text(value, text), (long long)f->min, (long long)max);
        }
        memcpy((char *)r->params + f->target, &n, sizeof(n));
    }
    return srv_resolve(r, f->name, json_is_null(value) ? json_null() : json_integer(n));
}

static int read_num_images(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    r->num_images_given = json_object_get(r->source->body, f->name) != NULL;
    return srv_read_integer(r, f, value);
}

static int read_steps(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t max = srv_field_max(f, &r->source->limits);
    char text[SRV_VALUE_TEXT];

    if (json_is_null(value))
        return 0;
    if (!srv_whole(value, &r->num_inference_steps) || r->num_inference_steps < f->min ||
        r->num_inference_steps > max) {
        r->num_inference_steps = 0;
        return srv_fault(r->faults, "/num_inference_steps",
                         "num_inference_steps is %s; it must be a whole number from %lld to %lld.",
                         srv_value_text(value, text), (long long)f->min, (long long)max);
    }
    return 0;
}

static int read_seed(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t seed;
    char text[SRV_VALUE_TEXT];

    if (json_is_null(value))
        return 0;
    if (!srv_whole(value, &seed) || seed < f->min || seed > f->max)
        return srv_fault(r->faults, "/seed",
                         "seed is %s; it must be a whole number from 0 to 9007199254740991 (2^53 - 1), "
                         "or null for a random one.",
                         srv_value_text(value, text));
    r->seed_given = true;
    r->params->spec.seed = (uint64_t)seed;
    return 0;
}

static int read_tolerance(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    double x = json_number_value(value);
    char text[SRV_VALUE_TEXT];

    if (!json_is_number(value) || !(x >= (double)f->min && x <= (double)f->max))
        return srv_fault(r->faults, "/tolerance", "tolerance is %s; it must be a number from %lld to %lld.",
                         srv_value_text(value, text), (long long)f->min, (long long)f->max);
    r->params->spec.tolerance = x;
    return srv_resolve(r, f->name, json_real(x));
}

static int read_client_ref(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char text[SRV_VALUE_TEXT];

    if (!json_is_null(value) &&
        (!json_is_string(value) || json_string_length(value) > SRV_MAX_CLIENT_REF))
        return srv_fault(r->faults, "/client_ref",
                         "client_ref is %s; it must be a string of at most %d bytes, or null.",
                         srv_value_text(value, text), SRV_MAX_CLIENT_REF);
    return srv_resolve(r, f->name, json_deep_copy(value));
}

/* ---- the bank and what is taken from it ---- */

/* The name that `bank` is served by, which need not be its own. */
static json_t *served_name(struct srv_banks *banks, const struct els_bank *bank)
{
    char name[64] = "";
    struct els_bank *other;

    for (size_t i = 0; (other = srv_banks_at(banks, i, name)); i++) {
        bool same = other == bank;

        els_bank_unref(other);
        if (same)
            return json_string(name);
    }
    return json_string(els_bank_info(bank)->name);
}

static int read_bank(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char text[SRV_VALUE_TEXT], names[256];
    struct els_bank *bank = NULL;

    bool given = json_object_get(r->source->body, f->name) != NULL;

    if (!given || json_is_string(value))
        bank = r->source->bank_sha256 && given
                   ? srv_banks_get_exact(r->source->banks, json_string_value(value), r->source->bank_sha256)
                   : srv_banks_get(r->source->banks, given ? json_string_value(value) : NULL);
    if (!bank)
        return srv_fault(r->faults, "/bank", "bank is %s; the loaded banks are: %s.",
                         srv_value_text(value, text),
                         srv_banks_names(r->source->banks, names, sizeof(names)));
    r->params->spec.bank = bank;
    r->params->shape = els_bank_info(bank)->shape;
    if (given)
        return srv_resolve(r, f->name, json_string(json_string_value(value)));
    return srv_resolve(r, f->name, served_name(r->source->banks, bank));
}

/* A class by index or name. On failure a fault at `pointer`. */
static int find_class(struct srv_reading *r, const char *pointer, const json_t *value, int64_t *out)
{
    const struct els_bank_info *info = els_bank_info(r->params->spec.bank);
    char text[SRV_VALUE_TEXT];
    struct els_error err = {0};

    if (info->num_classes == 0)
        return srv_fault(r->faults, pointer, "%s is %s, but the bank \"%s\" has no labels.", pointer + 1,
                         srv_value_text(value, text), info->name);
    if (json_is_string(value)) {
        if (els_bank_find_class(r->params->spec.bank, json_string_value(value), out, &err) < 0)
            return srv_fault(r->faults, pointer, "%s", err.message);
        return 0;
    }
    if (!srv_whole(value, out) || *out < 0 || *out >= info->num_classes)
        return srv_fault(r->faults, pointer, "%s is %s; it must be a class index from 0 to %d or a class name.",
                         pointer + 1, srv_value_text(value, text), info->num_classes - 1);
    return 0;
}

static int read_label(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t label = -1;
    int n = 0;

    /* Without a bank there is nothing to check against, and the bank's fault has been told. */
    if (!json_is_null(value) && r->params->spec.bank)
        n = find_class(r, "/label", value, &label);
    if (n < 0)
        return n;
    r->params->spec.selection.label = label;
    return srv_resolve(r, f->name, label < 0 ? json_null() : json_integer(label));
}

/* One entry of exclude.images or exclude.classes. */
static int read_excluded(struct srv_reading *r, const char *pointer, bool is_class, const json_t *value,
                         int64_t *out)
{
    int64_t count = els_bank_info(r->params->spec.bank)->num_images;
    char text[SRV_VALUE_TEXT];

    if (is_class)
        return find_class(r, pointer, value, out);
    if (!srv_whole(value, out) || *out < 0 || *out >= count)
        return srv_fault(r->faults, pointer, "%s is %s; it must be an image index from 0 to %lld.", pointer + 1,
                         srv_value_text(value, text), (long long)count - 1);
    return 0;
}

static int read_exclude_list(struct srv_reading *r, const char *name, const json_t *list, int64_t **out,
                             size_t *count, json_t *resolved)
{
    bool is_class = strcmp(name, "classes") == 0;
    char pointer[96], text[SRV_VALUE_TEXT];
    size_t n = json_array_size(list);
    int64_t *entries;
    json_t *copy = json_array();
    int status = 0;

    if (!copy || json_object_set_new(resolved, name, copy) < 0)
        return srv_fault_memory(r->faults);
    if (!list)
        return 0;
    snprintf(pointer, sizeof(pointer), "/exclude/%s", name);
    if (!json_is_array(list) || n > (size_t)r->source->limits.max_excluded)
        return srv_fault(r->faults, pointer, "%s is %s; it must be a list of at most %lld entries.", pointer + 1,
                         srv_value_text(list, text), (long long)r->source->limits.max_excluded);
    entries = els_alloc_array(n, sizeof(*entries));
    if (!entries)
        return srv_fault_memory(r->faults);
    *out = entries;
    *count = n;
    for (size_t i = 0; i < n && !srv_faults_full(r->faults); i++) {
        snprintf(pointer, sizeof(pointer), "/exclude/%s/%zu", name, i);
        if (read_excluded(r, pointer, is_class, json_array_get(list, i), &entries[i]) < 0)
            status = ELS_EINVAL;
        else if (json_array_append_new(copy, json_integer(entries[i])) < 0)
            return srv_fault_memory(r->faults);
    }
    return status;
}

static int read_exclude(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    struct els_selection_spec *s = &r->params->spec.selection;
    char text[SRV_VALUE_TEXT], pointer[96];
    const char *key;
    json_t *resolved, *entry;

    if (json_is_null(value))
        return srv_resolve(r, f->name, json_null());
    if (!json_is_object(value))
        return srv_fault(r->faults, "/exclude",
                         "exclude is %s; it must be {\"images\":[...],\"classes\":[...]} or null.",
                         srv_value_text(value, text));
    json_object_foreach((json_t *)value, key, entry) {
        if (strcmp(key, "images") == 0 || strcmp(key, "classes") == 0)
            continue;
        return srv_fault(r->faults, srv_pointer(pointer, "/exclude", key), "exclude has no field \"%.60s\"; it has images and classes.", key);
    }
    if (!r->params->spec.bank)
        return 0;
    resolved = json_object();
    if (srv_resolve(r, f->name, resolved) < 0)
        return ELS_ENOMEM;
    read_exclude_list(r, "images", json_object_get(value, "images"), &r->params->exclude_images,
                      &s->num_exclude_images, resolved);
    read_exclude_list(r, "classes", json_object_get(value, "classes"), &r->params->exclude_classes,
                      &s->num_exclude_classes, resolved);
    s->exclude_images = r->params->exclude_images;
    s->exclude_classes = r->params->exclude_classes;
    return 0;
}

/* ---- the noise schedule ---- */

static const char *schedule_word(const struct srv_job_type *kind, int i)
{
    return i < ELS_SCHEDULE_COUNT ? els_schedule_name((enum els_schedule)i) : NULL;
}

static int check_alpha_bar(struct srv_reading *r, const json_t *list, size_t i, double previous, double *out)
{
    const json_t *value = json_array_get(list, i);
    char pointer[96], text[SRV_VALUE_TEXT];

    *out = json_number_value(value);
    if (json_is_number(value) && *out > 0 && *out <= 1 &&
        (i == 0 || *out < previous))
        return 0;
    snprintf(pointer, sizeof(pointer), "/noise_schedule/alpha_bar/%zu", i);
    return srv_fault(r->faults, pointer,
                     "noise_schedule.alpha_bar[%zu] is %s; entries must be above 0, at most 1, and each smaller than the "
                     "one before.",
                     i, srv_value_text(value, text));
}

static int read_alpha_bar(struct srv_reading *r, const json_t *value)
{
    json_t *list = json_object_get(value, "alpha_bar"), *entry;
    size_t n = json_array_size(list);
    char pointer[96];
    double *entries;
    const char *key;

    json_object_foreach((json_t *)value, key, entry)
        if (entry != list && !srv_faults_full(r->faults))
            srv_fault(r->faults, srv_pointer(pointer, "/noise_schedule", key),
                      "noise_schedule has no field \"%.60s\"; it has alpha_bar.", key);
    if (!json_is_array(list) || n < 3 || n > ELS_MAX_INFERENCE_STEPS + 1)
        return srv_fault(r->faults, "/noise_schedule/alpha_bar",
                         "noise_schedule must be a name or {\"alpha_bar\":[...]} with num_inference_steps + 1 "
                         "numbers; this one has %zu.",
                         n);
    entries = els_alloc_array(n, sizeof(*entries));
    if (!entries)
        return srv_fault_memory(r->faults);
    r->params->alpha_bar = entries;
    r->params->spec.alpha_bar = entries;
    r->alpha_bar_length = n;
    for (size_t i = 0; i < n; i++) {
        int status = check_alpha_bar(r, list, i, i ? entries[i - 1] : 1, &entries[i]);

        if (status < 0)
            return status;
    }
    return srv_resolve(r, "noise_schedule", json_deep_copy(value));
}

static int read_noise_schedule(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return json_is_object(value) ? read_alpha_bar(r, value) : srv_read_choice(r, f, value);
}

/* ---- what is kept ---- */

const char *srv_output_word(const struct srv_job_type *kind, int i)
{
    return kind->outputs[i].word;
}

static unsigned find_output(const struct srv_job_type *kind, const json_t *value)
{
    const char *word;

    for (int i = 0; (word = srv_output_word(kind, i)); i++)
        if (*word && json_is_string(value) && strcmp(json_string_value(value), word) == 0)
            return 1u << i;
    return 0;
}

static const char *all_outputs(const struct srv_job_type *kind, char *out, size_t size)
{
    size_t used = 0;
    const char *word;

    *out = '\0';
    for (int i = 0; (word = srv_output_word(kind, i)) && used < size; i++)
        if (*word)
            used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", word);
    return out;
}

int srv_read_outputs(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char pointer[96], text[SRV_VALUE_TEXT], all[128];
    const struct srv_job_type *kind = r->params->kind;

    if (!json_is_array(value) || json_array_size(value) < 1 || json_array_size(value) > 16)
        return srv_fault(r->faults, "/outputs", "outputs is %s; it must be a list of 1 to 16 words from: %s.",
                         srv_value_text(value, text), all_outputs(kind, all, sizeof(all)));
    for (size_t i = 0; i < json_array_size(value); i++) {
        unsigned output = find_output(kind, json_array_get(value, i));

        r->params->outputs |= output;
        snprintf(pointer, sizeof(pointer), "/outputs/%zu", i);
        if (!output)
            return srv_fault(r->faults, pointer, "outputs[%zu] is %s; available are: %s.", i,
                             srv_value_text(json_array_get(value, i), text), all_outputs(kind, all, sizeof(all)));
    }
    return srv_resolve_outputs(r);
}

int srv_resolve_outputs(struct srv_reading *r)
{
    json_t *list = json_array();
    const char *word;

    if (srv_resolve(r, "outputs", list) < 0)
        return ELS_ENOMEM;
    for (int i = 0; (word = srv_output_word(r->params->kind, i)); i++)
        if (*word && (r->params->outputs & 1u << i) && json_array_append_new(list, json_string(word)) < 0)
            return srv_fault_memory(r->faults);
    return 0;
}

/* ---- the rows ---- */

static const char *machine_word(const struct srv_job_type *kind, int i)
{
    return i < ELS_MACHINE_COUNT ? els_machine_name((enum els_machine)i) : NULL;
}

static const char *candidates_word(const struct srv_job_type *kind, int i)
{
    return i < ELS_CANDIDATES_COUNT ? els_candidates_name((enum els_candidates)i) : NULL;
}

static const char *start_step_word(const struct srv_job_type *kind, int i)
{
    return i == ELS_START_PAPER ? "paper" : i == ELS_START_FULL ? "full" : NULL;
}

static const char *sampler_word(const struct srv_job_type *kind, int i)
{
    return i == ELS_DDIM ? "ddim" : i == ELS_DDPM ? "ddpm" : NULL;
}

static int64_t images_limit(const struct srv_limits *limits)
{
    return limits->max_num_images;
}

static int64_t steps_limit(const struct srv_limits *limits)
{
    return limits->max_num_inference_steps;
}

#define IN_SPEC(member) offsetof(struct srv_params, spec.member)

const struct srv_field srv_field_bank = {
    .name = "bank", .type = "string", .fallback = "null", .read = read_bank,
    .doc = "A loaded bank's name; by default the first configured.",
};

const struct srv_field srv_field_machine = {
    .name = "machine", .type = "string", .fallback = "\"bbels\"", .read = srv_read_choice,
    .target = IN_SPEC(machine), .choice = machine_word, .doc = "The score machine.",
};

const struct srv_field srv_field_candidates = {
    .name = "candidates", .type = "string", .fallback = "\"wrapped\"", .read = srv_read_choice,
    .target = IN_SPEC(candidates), .choice = candidates_word, .doc = "Which patches the machine els may use.",
};

const struct srv_field srv_field_label = {
    .name = "label", .type = "integer, string or null", .fallback = "null", .read = read_label,
    .doc = "A class index or name: candidates come from that class only.",
};

const struct srv_field srv_field_num_images = {
    .name = "num_images", .type = "integer", .fallback = "1", .read = read_num_images,
    .target = IN_SPEC(num_images), .min = 1, .max = ELS_MAX_NUM_IMAGES, .limit = images_limit, .own = true,
    .doc = "How many images; image i uses seed + i.",
};

const struct srv_field srv_field_num_inference_steps = {
    .name = "num_inference_steps", .type = "integer or null", .fallback = "null", .read = read_steps, .min = 2,
    .max = ELS_MAX_INFERENCE_STEPS, .limit = steps_limit,
    .doc = "Steps from noise to image; by default the length of the scale list, else 20.",
};

const struct srv_field srv_field_start_step = {
    .name = "start_step", .type = "string", .fallback = "\"paper\"", .read = srv_read_choice,
    .target = IN_SPEC(start_step), .choice = start_step_word,
    .doc = "paper runs i = n-1 ... 1 from unit noise, full runs i = n ... 1.",
};

const struct srv_field srv_field_sampler = {
    .name = "sampler", .type = "string", .fallback = "\"ddim\"", .read = srv_read_choice,
    .target = IN_SPEC(sampler), .choice = sampler_word, .own = true, .doc = "ddim is deterministic, ddpm stochastic.",
};

const struct srv_field srv_field_noise_schedule = {
    .name = "noise_schedule", .type = "string or object", .fallback = "\"cosine\"",
    .read = read_noise_schedule, .target = IN_SPEC(noise_schedule), .choice = schedule_word,
    .doc = "A name, or {\"alpha_bar\": [...]} with num_inference_steps + 1 numbers.",
};

/* For kinds that have no steps, and so no list of levels. */
const struct srv_field srv_field_noise_schedule_name = {
    .name = "noise_schedule", .type = "string", .fallback = "\"cosine\"", .read = srv_read_choice,
    .target = IN_SPEC(noise_schedule), .choice = schedule_word, .doc = "How t becomes a noise level.",
};

const struct srv_field srv_field_scales = {
    .name = "scales", .type = "string, integer, array, object or null", .fallback = "null",
    .read = srv_read_scales, .min = 1, .max = ELS_MAX_P,
    .doc = "Locality scales P(t): a preset, a saved name, one odd number, a list, {\"t\": [...], \"p\": [...]}, or auto: what "
           "the bank alone says; null: the bank's own, else mnist-resnet-zeros.",
};

const struct srv_field srv_field_seed = {
    .name = "seed", .type = "integer or null", .fallback = "null", .read = read_seed, .min = 0,
    .max = (int64_t)ELS_MAX_SEED, .own = true,
    .doc = "Seed of the first image; null: a random one, which the answer tells.",
};

const struct srv_field srv_field_exclude = {
    .name = "exclude", .type = "object or null", .fallback = "null", .read = read_exclude,
    .max = SRV_MAX_EXCLUDED, .doc = "Candidates left out: {\"images\": [...], \"classes\": [...]}, each of at most so many.",
};

const struct srv_field srv_field_noise = {
    .name = "noise", .type = "string or object", .fallback = "\"torch\"", .read = srv_read_noise, .own = true,
    .doc = "torch or numpy, the name of a tensor in a safetensors body, or {\"npy_base64\": \"...\"}.",
};

const struct srv_field srv_field_max_samples = {
    .name = "max_samples", .type = "integer or null", .fallback = "null", .read = srv_read_integer,
    .target = IN_SPEC(selection.max_samples), .min = 1, .max = ELS_MAX_IMAGES,
    .doc = "Use only the first so many images of the bank, or of the label.",
};

const struct srv_field srv_field_tolerance = {
    .name = "tolerance", .type = "number", .fallback = "0", .read = read_tolerance, .min = 0, .max = 1,
    .doc = "0 is exact; more lets the engine skip work within this certified error.",
};

const struct srv_field srv_field_client_ref = {
    .name = "client_ref", .type = "string or null", .fallback = "null", .read = read_client_ref,
    .max = SRV_MAX_CLIENT_REF, .own = true, .doc = "Free text, echoed.",
};
