/*
 * params: the body of a request that makes a job: JSON and tensors ⇄ what the library computes from.
 *
 *     struct srv_params *params = NULL;
 *     struct srv_faults faults = {0};
 *     struct srv_params_source source = {.kind = &srv_job_type_sample, .banks = banks, .store = store,
 *                                        .limits = srv_limits_of(config), .body = json};
 *     if (srv_params_new(&params, &source, &faults) < 0)
 *         …                                          // faults.fault[0 … count−1]: pointer and sentence
 *     els_sampler_new(&sampler, &params->spec, &err);
 *     puts(params->json);                            // resolved: sending it again repeats the job
 *     params = srv_params_free(params);
 *
 * One row (params_fields.c) declares each field: name, type, default, bounds and doc. A kind of job lists the rows
 * that its body may have. The rows drive parsing, the sentences about bad values, and what GET /v1/capabilities says.
 */
#ifndef SRV_PARAMS_H
#define SRV_PARAMS_H

#include <jansson.h>
#include <stdbool.h>

#include "core/base/sha256.h"
#include "els/safetensors.h"
#include "els/sampler.h"
#include "server/banks/banks.h"
#include "server/base/job_type.h"
#include "server/config/config.h"
#include "server/store/store.h"

enum {
    SRV_MAX_FAULTS = 16,       /* one answer names so many; there the reading ends */
    SRV_MAX_CLIENT_REF = 256,  /* bytes */
    SRV_MAX_EXCLUDED = 65536,  /* entries of exclude.images, and of exclude.classes */
    SRV_MAX_EXCLUDED_ONCE = 1000000, /* what was accepted before that limit is still run */
    SRV_MAX_TENSOR_TEXT = 4 << 20, /* characters of base64; larger tensors travel as safetensors */
    SRV_MAX_INPUTS = 4,
};

/* What a person got wrong: all of it, not only the first mistake. */
struct srv_faults {
    int status;       /* 422; 413 when the result would be too large; 500 when out of memory */
    const char *code; /* for the problem: "invalid_parameters", "result_too_large", "job_too_expensive", "out_of_memory" */
    size_t count;     /* entries of `fault`; when they are full the reading has ended */
    struct {
        char pointer[96]; /* a JSON pointer: "/scales/3" */
        char detail[416]; /* one sentence */
    } fault[SRV_MAX_FAULTS];
};

struct srv_limits {
    int64_t max_num_images;
    int64_t max_num_inference_steps;
    int64_t max_result_bytes;
    int64_t max_excluded; /* entries of each list of `exclude` */
    double max_cost; /* in the measure of srv_params.cost; 0: no limit */
    int64_t max_run_bytes; /* of memory that a running job may take; 0: no limit */
    int threads;           /* that will compute; 0: one */
};

/* The configuration's. */
struct srv_limits srv_limits_of(const struct srv_config *config);
/* The library's own: for jobs that an earlier configuration accepted. */
struct srv_limits srv_limits_widest(void);

struct srv_params_source {
    const struct srv_job_type *kind;
    struct srv_banks *banks;
    struct srv_store *store; /* for scales that were saved under a name; NULL: there are none */
    const char *owner;       /* whose names these are; with a store */
    const char *bank_sha256; /* of the bank that a stored job was accepted for; NULL: of a new one */
    struct srv_limits limits;
    const json_t *body;                    /* borrowed */
    const struct els_safetensors *tensors; /* beside the JSON: the request's, or those that the store kept */
};

/* A tensor that the client sent. */
struct srv_input {
    char name[64]; /* among the tensors beside the JSON; "": it came inside the JSON, which still holds it */
    int ndim;
    int64_t dims[ELS_TENSOR_MAX_DIMS];
    float *values; /* owned; finite. NULL while only the store holds them */
    unsigned fields; /* of srv_params point to it: bit i is entry i of a table in params_tensor.c; while NULL */
};

/* A checked request. Immutable once made, but for the values of inputs; every pointer in `spec` is owned by it. */
struct srv_params {
    const struct srv_job_type *kind;
    struct els_sample_spec spec; /* as much of it as the kind's fields say; spec.bank is a reference */
    struct els_shape shape;      /* of the bank's images */
    int num_steps;               /* S, the steps that will run */
    int depth;                   /* K of job_type.h */
    unsigned outputs;            /* bit i is row i of kind->outputs */
    uint64_t result_bytes;       /* of all tensors that the job will keep, and of its pictures' captions */
    uint64_t run_bytes;          /* memory that the job takes while it runs: results, states, what a pass needs */
    double cost;                 /* all its work: pairs of values and candidates (effort.h), over all images,
                                  * steps and scales */
    int64_t bank_images;         /* that its candidates come from; 0 for kinds that do not ask again */
    double setup_cost;           /* the part of it that comes before the first step */
    char *json;                  /* resolved and complete */
    bool shares;                 /* may its steps be taken together with those of other jobs? */
    char likeness[ELS_SHA256_HEX]; /* the same for jobs whose steps ask the bank the same; "" unless it shares */
    struct srv_input inputs[SRV_MAX_INPUTS];
    size_t num_inputs;
    double *alpha_bar; /* the same as spec.alpha_bar */
    int64_t *exclude_images, *exclude_classes;
    bool auto_scales;   /* spec.scales stands in until the job has found its own */
    int64_t mosaic_top; /* candidates per pixel of a mosaic */
    /* of kinds that evaluate at given times and scales (params_levels.c) */
    int num_p, p[ELS_MAX_P_COUNT];
    int num_t;
    double *t;                      /* [num_t] owned; NULL: not given */
    double *level;                  /* [num_t] owned; explicit ᾱ, or NULL */
    const float *x, *xt, *eps, *x0; /* into `inputs`; NULL: not given */
    /* of calibrations */
    int metric, fit;                /* enum els_calibration_metric, enum els_calibration_fit */
    char save_as[SRV_SCALES_NAME_SIZE]; /* "": do not save */
    /* of comparisons */
    const float *images; /* into `inputs` */
    uint64_t *seeds;     /* [num_seeds] owned; NULL: not given */
    int64_t num_seeds;
    float *drawn; /* [num_images,C,H,W] owned: x_T where seeds do not follow each other; the same as spec.x_T */
};

/* 0; or ELS_EINVAL, ELS_ELIMIT or ELS_ENOMEM, and `faults` holds at least one sentence. What it
 * accepts cannot fail later for its parameters: a sampler for one image has been made from it. */
int srv_params_new(struct srv_params **out, const struct srv_params_source *source,
                   struct srv_faults *faults);
/* NULL is fine. Returns NULL. */
struct srv_params *srv_params_free(struct srv_params *p);

struct srv_extent srv_params_extent(const struct srv_params *p);
/* Is output i of the kind to be kept? */
bool srv_params_keep(const struct srv_params *p, int i);
/* Do both jobs' steps ask the bank the same, each of its own noisy images? Both share, then. */
bool srv_params_alike(const struct srv_params *a, const struct srv_params *b);
/* Appends the tensors that came beside the JSON as one safetensors container; nothing when there were none. */
int srv_params_write_inputs(const struct srv_params *p, struct els_buffer *out);
/* The bytes of these tensors' values. */
size_t srv_params_input_bytes(const struct srv_params *p);
/* The memory that a job waiting with these parameters takes; the values of tensors that only the store holds are none of
 * it. And the most of it that parameters may come to which are a text of so many bytes, tensors beside it left out. */
size_t srv_params_memory(const struct srv_params *p);
size_t srv_params_text_memory(size_t text);
/* Frees these tensors' values: a job that waits leaves them to the store. Nobody may compute with *p until … */
void srv_params_drop_inputs(struct srv_params *p);
/* … they have been taken from that container again. 0, also when nothing had been dropped; ELS_EFORMAT: it is not what
 * was written; ELS_ENOMEM. */
int srv_params_load_inputs(struct srv_params *p, const struct els_safetensors *inputs, struct els_error *err);
/* Have inputs been dropped? */
bool srv_params_lack_inputs(const struct srv_params *p);

/* Have there been so many that the reading ends? */
bool srv_faults_full(const struct srv_faults *faults);
/* A fault in printf's manner, or nothing when they are full. `pointer` is cut to fit. Returns ELS_EINVAL. */
int srv_fault(struct srv_faults *faults, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Ends a handler with the problem that `faults` describe. */
void srv_faults_answer(const struct srv_faults *faults, struct srv_response *res);

#endif
