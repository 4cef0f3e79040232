/*
 * kind: what a job can be. A kind is one row: the body it reads, the tensors it keeps, and how it is computed. All that
 * happens around it (acceptance, queue, idempotency, durable storage, cancellation, events, re-queueing) is the
 * same for every kind.
 *
 *     const struct srv_job_type *kind = srv_job_type_find("denoise");       // NULL: there is no such kind
 *     for (const struct srv_output *o = kind->outputs; o->word; o++)
 *         printf("%s %zu\n", o->tensor, srv_output_values(o, &extent));
 *
 * To add a kind: a kind_<name>.c with its fields, outputs and functions, a row in job_types.c, a route.
 */
#ifndef SRV_JOB_TYPE_H
#define SRV_JOB_TYPE_H

#include <stdbool.h>

#include "els/bank.h"
#include "els/error.h"
#include "els/pool.h"
#include "els/tensor.h"

struct els_sampler;
struct els_progress;
struct srv_reading;
struct srv_job_record;
struct srv_job_run;

enum { SRV_MAX_OUTPUTS = 12 };

#define SRV_IMAGES_TENSOR "images"

/* The numbers that shape every tensor of a job. */
struct srv_extent {
    struct els_shape shape; /* of one image */
    int64_t num_images;     /* N; how many images were sent, for kinds that are sent some */
    int num_steps;          /* S */
    int depth;              /* K, scales at once; or candidates per pixel of a mosaic */
};

/* A tensor that a job can keep: F32, or another type of four bytes. The store holds it image by image, as one block
 * each. */
struct srv_output {
    const char *word;   /* as the field `outputs` names it; "": it comes along with another */
    const char *tensor; /* as the store and the answers name it */
    /* Type and dimensions of all images together; data is NULL. */
    struct els_tensor (*describe)(const struct srv_extent *e);
    int image_axis; /* which dimension is N: 0, or 1 in [K,N,…] */
    bool always;    /* kept, whatever `outputs` says */
};

/* Values per image. */
size_t srv_output_values(const struct srv_output *o, const struct srv_extent *e);

struct srv_job_type {
    const char *name; /* what the store and the JSON say: never renamed */
    const char *path; /* where it is posted to */
    const struct srv_field *const *fields; /* of the body, NULL-terminated, in the order of reading: the bank first */
    /* Ends with a row without a word; bit i of `outputs` is row i. Row 0 is the main one: what .npy and PNG show. */
    const struct srv_output *outputs;
    bool has_images; /* row 0 is SRV_IMAGES_TENSOR, and each has a PNG */
    bool has_sheet;      /* a picture of the whole, which is what PNG shows */
    bool tensors_inside; /* small tensors are told in the JSON of the result, too */

    /* What depends on several fields, once all have been read: fills in num_steps, cost and what else the kind
     * needs, and adds faults. */
    void (*settle)(struct srv_reading *r);

    /* ---- computing; on an executor's thread ---- */

    /* Prepares run->work. Cheap: what takes long belongs into the first step. */
    int (*begin)(struct srv_job_run *run, struct els_error *err);
    /* What a step takes, in the measure of srv_params.cost: as exactly as is known by now. */
    double (*work)(const struct srv_job_run *run, int step);
    /* Runs step run->next, and keeps what it gave. After an error or ELS_ECANCELLED it can be run again. */
    int (*step)(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err);
    /* The sampler, where its step is all that the next step does: then it may be taken together with others, and
     * `stepped` keeps what it gave. NULL: there is more to do. A kind without it (NULL) never shares a pass. */
    struct els_sampler *(*sampler)(const struct srv_job_run *run);
    void (*stepped)(struct srv_job_run *run);
    /* [N,C,H,W] that step run->next − 1 gave, and its t: to be shown to those who look on. NULL: nothing to see. */
    const float *(*preview)(const struct srv_job_run *run, double *t);
    /* All steps are done: run->result, and the pictures if there are any. After ELS_ECANCELLED it can be run again. */
    int (*finish)(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err);
    /* Frees run->work; NULL is fine. */
    void (*end)(struct srv_job_run *run);
    /* What skipping can have changed so far. */
    double (*certified_error)(const struct srv_job_run *run);
};

extern const struct srv_job_type srv_job_type_sample, srv_job_type_denoise, srv_job_type_calibration, srv_job_type_comparison;

/* Row i, NULL past the end. */
const struct srv_job_type *srv_job_type_at(size_t i);
/* NULL: unknown. */
const struct srv_job_type *srv_job_type_find(const char *name);
/* The row of that word; −1: there is none. */
int srv_output_find(const struct srv_job_type *kind, const char *word);
/* The extent that a record tells. */
struct srv_extent srv_job_record_extent(const struct srv_job_record *record);
/* Does the record's job keep output i of its kind? */
bool srv_job_record_keeps(const struct srv_job_record *record, const struct srv_job_type *kind, int i);

#endif
