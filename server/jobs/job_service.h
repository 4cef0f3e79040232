/*
 * service: inside the job service: what jobs.c shares with the handlers.
 *
 *     struct srv_job *job = srv_jobs_live(jobs, id);      // queued or running: a reference
 *     if (!job)
 *         status = srv_store_get(jobs->store, id, key, …);     // ended, gone or unknown
 */
#ifndef SRV_SERVICE_H
#define SRV_SERVICE_H

#include "server/base/daemon.h"
#include "server/jobs/scheduler.h"
#include "server/jobs/jobs.h"
#include "server/base/quota.h"

enum { SRV_LIVE_BUCKETS = 4096 };

struct srv_jobs {
    struct srv_daemon *daemon;
    struct srv_store *store;
    struct srv_queue *queue;
    struct srv_scheduler *scheduler;
    struct srv_quota *per_key, *per_address; /* unfinished jobs */
    pthread_mutex_t lock; /* guards `live` */
    struct srv_job *live[SRV_LIVE_BUCKETS]; /* by the first three digits of the id, which is random */
};

/* 32 lower-case hex digits? */
bool srv_jobs_is_id(const char *id);
/* May the holder of this API key see a job of that owner? Without keys ("") everybody sees all. */
bool srv_jobs_may_see(const char *key, const char *owner);
/* A reference to a live job, or NULL. `id` is one. */
struct srv_job *srv_jobs_live(struct srv_jobs *jobs, const char *id);
/* The same for any text from a client with this API key: NULL also for a job that it may not see. */
struct srv_job *srv_jobs_live_for(struct srv_jobs *jobs, const char *id, const char *key);

/* Stores and queues a new job. 0; SRV_STORE_TAKEN (idempotency key in use); ELS_ELIMIT (a limit is reached:
 * err->field is its setting; "inputs": it could never be accepted); another negative status with a sentence. The caller
 * keeps its reference. From now on the store holds the uploaded tensors, and nobody else, until the job begins. */
int srv_jobs_submit(struct srv_jobs *jobs, struct srv_job *job, const char *idempotency_key, const char *body_sha256,
                    struct srv_refusal *why, struct els_error *err);
/* A live job is to stop: 0 when it has already, ELS_ECANCELLED when it is about to; SRV_JOBS_ENDING when it is too late,
 * for its outcome is being stored; another negative status. */
enum { SRV_JOBS_ENDING = 1 };
int srv_jobs_cancel(struct srv_jobs *jobs, struct srv_job *job, struct els_error *err);
/* The record of any job that the holder of this API key may see: 0 (srv_job_record_deinit it), SRV_STORE_GONE (it was theirs),
 * ELS_ENOENT or another negative status. */
int srv_jobs_record(struct srv_jobs *jobs, const char *id, const char *key, struct srv_job_record *out,
                    struct els_error *err);
/* What a live job's record says now, its place in the line included. */
int srv_jobs_live_record(struct srv_jobs *jobs, struct srv_job *job, struct srv_job_record *out);

#endif
