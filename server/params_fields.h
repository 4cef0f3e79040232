/*
 * params_fields: inside params: the table of fields, and what reading one of them may touch.
 */
#ifndef SRV_PARAMS_FIELDS_H
#define SRV_PARAMS_FIELDS_H

#include "params.h"

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
    const char *(*choice)(int i);  /* the i-th allowed word, NULL past the end */
    int64_t min, max;              /* of numbers */
    int64_t (*limit)(const struct srv_limits *limits); /* a configured maximum, lower than max */
    const char *doc;
};

/* Ends with a row without a name. The order is the order of reading: the bank first. */
extern const struct srv_field srv_fields[];

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
/* Marks that memory is out. Returns ELS_ENOMEM. */
int srv_fault_memory(struct srv_faults *faults);
/* Sets a field of the resolved object; takes the reference, NULL stands for "out of memory". */
int srv_resolve(struct srv_reading *r, const char *name, json_t *value);

/* params_scales.c and params_noise.c */
int srv_read_scales(struct srv_reading *r, const struct srv_field *f, const json_t *value);
int srv_read_noise(struct srv_reading *r, const struct srv_field *f, const json_t *value);

#endif
