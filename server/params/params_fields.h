/*
 * params_fields: inside params: the rows of the fields, and what reading one of them may touch.
 */
#ifndef SRV_PARAMS_FIELDS_H
#define SRV_PARAMS_FIELDS_H

#include "server/params/params.h"

/* One reading of one body. */
struct srv_reading {
    const struct srv_params_source *source;
    struct srv_faults *faults;
    struct srv_params *params;
    json_t *resolved;        /* the object that becomes params->json */
    bool num_images_given;
    bool seed_given;
    int64_t num_inference_steps; /* 0: not given */
    int list_length;         /* entries of a plain scale list; 0: there is none */
    bool list_is_banks;      /* that list is the bank's own: it serves any number of steps */
    size_t alpha_bar_length;
    int64_t noise_images;    /* N of the uploaded x_T; 0: there is none */
};

struct srv_field {
    const char *name;
    const char *type;              /* for people: "string", "integer or null", … */
    const char *fallback;          /* the default, as JSON text; a missing field is read as this */
    int (*read)(struct srv_reading *r, const struct srv_field *f, const json_t *value);
    size_t target;                 /* of read_choice and read_integer: offset in struct srv_params */
    const char *(*choice)(const struct srv_job_type *kind, int i); /* the i-th allowed word, NULL past the end */
    int64_t min, max;              /* of numbers; most bytes of a text, most entries of a list */
    int64_t (*limit)(const struct srv_limits *limits); /* a configured maximum, lower than max */
    bool own;                      /* jobs that differ in it still ask the bank the same at every step */
    const char *doc;
};

/* The rows; a kind lists those that its body may have. */
extern const struct srv_field srv_field_bank, srv_field_machine, srv_field_candidates, srv_field_label,
    srv_field_num_images, srv_field_num_inference_steps, srv_field_start_step, srv_field_sampler,
    srv_field_noise_schedule, srv_field_noise_schedule_name, srv_field_scales, srv_field_seed, srv_field_exclude, srv_field_noise,
    srv_field_max_samples, srv_field_tolerance, srv_field_client_ref;

/* The kind's row of that name, or NULL. */
const struct srv_field *srv_field_find(const struct srv_job_type *kind, const char *name);
/* A row's largest number under these limits. */
int64_t srv_field_max(const struct srv_field *f, const struct srv_limits *limits);

/* ---- shared by the readers ---- */

enum { SRV_VALUE_TEXT = 72 };

/* The value as JSON for a sentence, cut to fit. Returns `out`. */
const char *srv_value_text(const json_t *value, char out[SRV_VALUE_TEXT]);
/* Is it a whole number (7 or 7.0)? Then *out is it. */
bool srv_whole(const json_t *value, int64_t *out);
/* "/parent/name" as a JSON pointer: ~ and / in `name` are escaped. `parent` may be "". Returns `out`. */
const char *srv_pointer(char out[96], const char *parent, const char *name);
/* Marks that out of memory. Returns ELS_ENOMEM. */
int srv_fault_memory(struct srv_faults *faults);
/* Sets a field of the resolved object; takes the reference, NULL stands for "out of memory". */
int srv_resolve(struct srv_reading *r, const char *name, json_t *value);

int srv_read_integer(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_choice(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_outputs(struct srv_reading *r, const struct srv_field *f, const json_t *value);
/* Says in the resolved object what params->outputs is now. */
int srv_resolve_outputs(struct srv_reading *r);
/* The words of the kind's outputs, for the row of `outputs`. */
const char *srv_output_word(const struct srv_job_type *kind, int i);

/* params_scales.c and params_tensor.c */
int srv_read_scales(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_noise(struct srv_reading *r, const struct srv_field *f, const json_t *value);

/* {"t":[…],"p":[…]} at the pointer `at`. 0, or faults have been added. els_scales_deinit(out) on success. */
int srv_read_pairs(struct srv_faults *faults, const char *at, const json_t *value, struct els_scales *out);

/* ---- tensors (params_tensor.c) ---- */

/* A tensor that a field's value means. Deinit it, on failure too. */
struct srv_found_tensor {
    struct els_tensor tensor; /* views the body, or `bytes` */
    const char *name;         /* among the tensors beside the JSON; NULL: it came inside */
    struct els_buffer bytes;
};

#define SRV_FOUND_TENSOR_INIT ((struct srv_found_tensor){.bytes = ELS_BUFFER_INIT(SRV_MAX_TENSOR_TEXT)})

/* `value`: the name of a tensor beside the JSON (null: the field's own name), or {"npy_base64":"…"}. Resolves the
 * field too. On failure a fault. */
int srv_find_tensor(struct srv_reading *r, const char *field, const json_t *value, struct srv_found_tensor *out);
void srv_found_tensor_deinit(struct srv_found_tensor *found);
/* Copies it to params->inputs as float32. Floats, finite, at most 10⁴: else a fault that names the field. NULL on
 * failure, else the values. */
const float *srv_take_tensor(struct srv_reading *r, const char *field, const struct srv_found_tensor *found);

/* A tensor of images [<leads>,C,H,W] with the bank's C, H, W; with one lead also [C,H,W], which means 1. `leads` are
 * its letters, "B" or "ST"; lead[i] is from 1 to `most`. Taken as srv_take_tensor does; NULL and a fault, or NULL
 * because there is no bank to compare with. */
const float *srv_read_images(struct srv_reading *r, const char *field, const json_t *value, const char *leads,
                             int64_t most, int64_t *lead);
/* Is the field's tensor given, by value or by its name beside the JSON? */
bool srv_tensor_is_given(const struct srv_reading *r, const char *field, const json_t *value);

/* ---- times, levels and scales (params_levels.c) ---- */

/* The readers of the fields t and alpha_bar as one number or null, t as a list (or a tensor), alpha_bar as a list
 * or null, and p. */
int srv_read_t(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_level(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_times(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_levels(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_p(struct srv_reading *r, const struct srv_field *f, const json_t *value);
/* Numbers as a JSON list, for the resolved object; NULL when out of memory. */
json_t *srv_numbers_json(const double *values, size_t n);
/* The scales params->p in the same way. */
json_t *srv_p_json(const struct srv_params *p);

/* ---- for the settle() of kinds (params.c) ---- */

/* Sets result_bytes; 413 when that is too much. */
void srv_settle_bytes(struct srv_reading *r);
/* How much there is to compute for one image at one scale, in the measure of srv_params.cost. */
double srv_pass_cost(const struct srv_params *p, int scale, int64_t bank_images);
/* The same at all of params->p together. */
double srv_passes_cost(const struct srv_params *p, int64_t bank_images);
/* The bytes of all inputs' values that are in memory. */
size_t srv_params_held_bytes(const struct srv_params *p);

/* Notes in run_bytes, if it is more than what is there, the memory of an evaluation on `batch` images like e->x. Then
 * the kind adds what else it needs; results and pictures are added later. */
void srv_settle_evaluation_bytes(struct srv_reading *r, const struct els_evaluation *e, int64_t batch, bool entropy);
/* The library's sentence as a fault of the field that it is about; of the whole body when it names none of ours. */
int srv_fault_library(struct srv_reading *r, const struct els_error *err);

#endif
