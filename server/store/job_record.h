/*
 * record: everything that is known of one job at one moment, as plain data: what the store keeps and what
 * GET /v1/jobs/{id} says.
 *
 *     struct srv_job_record record = {0};
 *     if (srv_store_get(store, id, &record, &err) == 0)
 *         json = srv_job_record_json(&record, SRV_RECORD_WHOLE);
 *     srv_job_record_deinit(&record);
 */
#ifndef SRV_JOB_RECORD_H
#define SRV_JOB_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "els/bank.h"

/* The order is the store's: never renumber. */
enum srv_status {
    SRV_QUEUED,
    SRV_RUNNING,
    SRV_SUCCEEDED,
    SRV_FAILED,
    SRV_CANCELLED,
    SRV_STATUS_COUNT,
};

enum {
    SRV_ID_SIZE = 33,    /* 128 random bits as lower-case hex, and a NUL */
    SRV_OWNER_SIZE = 64, /* the name of an API key; "" without keys */
    SRV_EVENTS_RECORD = 1 << 20, /* an event has no parameters and no result of a job whose texts are larger */
};

struct srv_progress {
    int64_t image; /* images that are finished */
    int step;      /* steps that are done */
    int steps;     /* S */
    double eta_seconds; /* negative: not known yet */
};

struct srv_job_record {
    int64_t sequence; /* the store's order of creation, from 1; the cursor of lists */
    char id[SRV_ID_SIZE];
    char kind[16];
    char owner[SRV_OWNER_SIZE];
    enum srv_status status;
    int64_t created, started, finished; /* ms since 1970; 0: not yet */
    char *params;                       /* resolved JSON */
    char *result, *error, *engine;      /* JSON, or NULL */
    char bank_sha256[65];
    struct els_shape shape;
    int64_t num_images;
    int num_steps;      /* S */
    int depth;          /* K: scales at once, or candidates per pixel of a mosaic; else 1 */
    unsigned outputs;   /* of enum srv_output */
    uint64_t seed;      /* of image 0 */
    uint64_t last_event; /* sequence of the terminal event */
    /* of live jobs only */
    struct srv_progress progress;
    int64_t queue_position; /* 1: the next; 0: not queued */
};

enum srv_job_record_detail {
    SRV_RECORD_WHOLE,
    SRV_RECORD_BRIEF, /* for lists: no result, and uploaded tensors are named, not held */
};

void srv_job_record_deinit(struct srv_job_record *record);
/* A deep copy. ELS_ENOMEM: *out is empty. */
int srv_job_record_copy(struct srv_job_record *out, const struct srv_job_record *from);
/* Replaces tensors inside resolved parameters by the word "uploaded". 0, or −1 when out of memory. */
int srv_name_uploads(json_t *params);
/* For an event: the whole; without its parameters and its result (null) when these are over SRV_EVENTS_RECORD. */
json_t *srv_job_record_event(const struct srv_job_record *record);
/* The most bytes that the text of that has. */
size_t srv_job_record_event_bytes(const struct srv_job_record *record);
/* As API.md describes it. A new reference; NULL when out of memory. */
json_t *srv_job_record_json(const struct srv_job_record *record, enum srv_job_record_detail detail);

/* "queued" …; NULL past the end. */
const char *srv_status_name(enum srv_status status);
/* 0, or ELS_ENOENT. */
int srv_status_parse(const char *name, enum srv_status *out);
/* Succeeded, failed or cancelled: nothing changes any more. */
bool srv_status_ended(enum srv_status status);

#endif
