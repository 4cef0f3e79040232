/*
 * params: the body of a sampling request: JSON ⇄ els_sample_spec.
 *
 *     struct srv_params *params = NULL;
 *     struct srv_faults faults = {0};
 *     struct srv_params_source source = {.banks = banks, .limits = srv_limits_of(config), .body = json};
 *     if (srv_params_new(&params, &source, &faults) < 0)
 *         …                                          // faults.fault[0 … count−1]: pointer and sentence
 *     els_sampler_new(&sampler, &params->spec, &err);
 *     puts(params->json);                            // resolved: sending it again repeats the job
 *     params = srv_params_free(params);
 *
 * One table (params_fields.c) declares every field: name, type, default, bounds and doc. It drives
 * parsing, the sentences about bad values, and what GET /v1/capabilities says.
 */
#ifndef SRV_PARAMS_H
#define SRV_PARAMS_H

#include <jansson.h>
#include <stdbool.h>

#include "banks.h"
#include "config.h"
#include "safetensors.h"
#include "sampler.h"

enum srv_output {
    SRV_OUTPUT_IMAGE = 1,
    SRV_OUTPUT_X0 = 2,
    SRV_OUTPUT_XT = 4,
    SRV_OUTPUT_ENTROPY = 8,
};

enum {
    SRV_MAX_FAULTS = 16,       /* one answer names so many; the rest are counted */
    SRV_MAX_CLIENT_REF = 256,  /* bytes */
    SRV_MAX_EXCLUDED = 1000000,
    SRV_MAX_NOISE_TEXT = 4 << 20, /* characters of base64; larger noise travels as safetensors */
};

/* What a person got wrong: all of it, not only the first mistake. */
struct srv_faults {
    int status;       /* 422; 413 when the result would be too large; 500 when memory is out */
    const char *code; /* for the problem: "invalid_parameters", "result_too_large", "out_of_memory" */
    size_t count;     /* entries of `fault` */
    size_t left_out;  /* faults beyond those */
    struct {
        char pointer[96]; /* a JSON pointer: "/scales/3" */
        char detail[416]; /* one sentence */
    } fault[SRV_MAX_FAULTS];
};

struct srv_limits {
    int64_t max_num_images;
    int64_t max_num_inference_steps;
    int64_t max_result_bytes;
};

/* The configuration's. */
struct srv_limits srv_limits_of(const struct srv_config *config);
/* The library's own: for jobs that an earlier configuration accepted. */
struct srv_limits srv_limits_widest(void);

struct srv_params_source {
    struct srv_banks *banks;
    struct srv_limits limits;
    const json_t *body;                      /* borrowed */
    const struct els_safetensors *tensors;   /* the request's tensors, or NULL */
    const struct els_tensor *stored_noise;   /* x_T that the store kept; stands for any tensor name */
};

/* A checked request. Immutable once made; every pointer in `spec` is owned by it. */
struct srv_params {
    struct els_sample_spec spec; /* spec.bank is a reference */
    struct els_shape shape;      /* of the bank's images */
    int num_steps;               /* S, the steps that will run */
    unsigned outputs;            /* of enum srv_output */
    bool noise_from_tensor;      /* x_T came as a tensor beside the JSON: json alone does not hold it */
    uint64_t result_bytes;       /* of all tensors that the job will keep */
    double cost;                 /* work, in candidate pixels: to compare jobs with each other */
    char *json;                  /* resolved and complete */
    float *x_T;                  /* [num_images,C,H,W] or NULL; the same as spec.x_T */
    double *alpha_bar;           /* the same as spec.alpha_bar */
    int64_t *exclude_images, *exclude_classes;
};

/* 0; or ELS_EINVAL, ELS_ELIMIT or ELS_ENOMEM, and `faults` holds at least one sentence. What it
 * accepts cannot fail later for its parameters: a sampler for one image has been made from it. */
int srv_params_new(struct srv_params **out, const struct srv_params_source *source,
                   struct srv_faults *faults);
/* NULL is fine. Returns NULL. */
struct srv_params *srv_params_free(struct srv_params *p);

/* The tensors a job keeps, by name: "images" always, "x0" "xt" "entropy" as asked for. NULL past the end. */
const char *srv_output_tensor(unsigned output);
/* Values per image of one tensor of a job: the image's block in the store, as float32. */
size_t srv_output_values(unsigned output, struct els_shape shape, int num_steps);

/*
 * Resolved parameters as a picture's tEXt holds them: those that make image `index` alone (seed + index,
 * one image), or for −1 all images together; without client_ref; uploaded noise
 * is named, not held. A new string (free()), or NULL when out of memory.
 */
char *srv_params_caption(const char *resolved, int index);

/* A fault in printf's manner. `pointer` is cut to fit. Returns ELS_EINVAL. */
int srv_fault(struct srv_faults *faults, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Ends a handler with the problem that `faults` describe. */
void srv_faults_answer(const struct srv_faults *faults, struct srv_response *res);

#endif
