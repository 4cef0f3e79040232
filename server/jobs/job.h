/*
 * job: one live job: from its acceptance until nobody holds it any more after its end.
 *
 *     struct srv_job *job = NULL;
 *     srv_job_new(&job, params, owner, peer);    // takes params
 *     srv_job_start(job, srv_now_ms());          // scheduler
 *     srv_job_progress(job, 3, 0.5, false);      // whoever computes
 *     srv_job_end(job, &outcome);                // whoever ends it, once the store knows
 *     job = srv_job_unref(job);
 */
#ifndef SRV_JOB_H
#define SRV_JOB_H

#include <stdatomic.h>

#include "server/base/account.h"
#include "server/http/waiters.h"
#include "server/jobs/events.h"
#include "server/params/params.h"
#include "server/store/job_record.h"
#include "server/store/store.h"

enum { SRV_PEER_SIZE = 48 };

enum srv_fate {
    SRV_FATE_OPEN,
    SRV_FATE_CANCELLED, /* asked to stop; polled by the workers */
    SRV_FATE_ENDING,    /* its outcome goes into the store: too late to cancel it */
};

struct srv_job {
    atomic_int refs;
    /* fixed at birth, read by anyone; but for the values of uploaded tensors, which only the owner looks at */
    struct srv_params *params;
    struct srv_events *events;
    char peer[SRV_PEER_SIZE]; /* the address that it came from; "" after a restart */
    int64_t born; /* when it was accepted or restored, monotonic ms */
    atomic_int fate; /* of enum srv_fate: cancelled or ending, whichever came first */
    /* links of the queue and of the list of live jobs, each under its owner's lock */
    struct srv_job *next_queued, *next_live;
    /* What it holds while it waits: `inputs` in memory, given back when nobody holds the job any more; `disk` in the
     * store, given back when it has ended. Set before it is queued; then only its owner looks at them. */
    struct srv_charge inputs, disk;
    struct srv_waiters watchers; /* parked requests and streams */

    pthread_mutex_t lock; /* guards what follows */
    struct srv_job_record record;
    int64_t started_monotonic;
    int64_t last_told; /* when progress was last published, monotonic ms */
};

/* A new job with a random id. Takes `params`, on failure too. `owner`: the name of the API key; `peer`: the
 * client's address. */
int srv_job_new(struct srv_job **out, struct srv_params *params, const char *owner, const char *peer);
/* The same from a stored record (copied): keeps its id and times, status queued. Takes `params`. */
int srv_job_restore(struct srv_job **out, struct srv_params *params, const struct srv_job_record *record);
struct srv_job *srv_job_ref(struct srv_job *job);
/* NULL is fine. Returns NULL. */
struct srv_job *srv_job_unref(struct srv_job *job);

/* May a job go from one status to the other? The table is in job.c. */
bool srv_job_may(enum srv_status from, enum srv_status to);
enum srv_status srv_job_status(struct srv_job *job);
/* A copy of everything; srv_job_record_deinit it. ELS_ENOMEM. */
int srv_job_snapshot(struct srv_job *job, struct srv_job_record *out);
/* The job as JSON text for an event, srv_job_record_event (free()), or NULL when out of memory. */
char *srv_job_text(struct srv_job *job);

/* Queued → running. Publishes and wakes. */
void srv_job_start(struct srv_job *job, int64_t now);
/* `step` steps are done, and `done` (0…1) of all the work. Any worker; published at most every 200 ms, or at once when
 * `now` says so. */
void srv_job_progress(struct srv_job *job, int step, double done, bool now);

/*
 * Whether a job is cancelled or its outcome stored is decided here, once: of the two, whichever is tried first. True: it
 * is so. After srv_job_begin_end has come true the outcome is stored, or srv_job_reopen undoes it.
 */
bool srv_job_cancel(struct srv_job *job);
bool srv_job_begin_end(struct srv_job *job);
void srv_job_reopen(struct srv_job *job);
bool srv_job_is_cancelled(const struct srv_job *job);

/* To an ended status: the terminal event, and everyone is woken. The texts are copied. */
void srv_job_end(struct srv_job *job, const struct srv_outcome *outcome);
/*
 * Charges what the job holds while it waits, in all: `stored` bytes of it in the store, which is on disk or in memory.
 * `more`: memory that it takes only until the store has it. ELS_ELIMIT and *why: refused.
 */
int srv_job_charge(struct srv_job *job, int64_t stored, bool on_disk, size_t more, struct srv_refusal *why);
/* The same for a job that an earlier process accepted: never refused. */
void srv_job_charge_any(struct srv_job *job, struct srv_payer *payer, int64_t stored, bool on_disk);
/* Takes the uploaded tensors from the store, where they are while the job waits: its owner, before it computes. */
int srv_job_load_inputs(struct srv_job *job, struct srv_store *store, struct els_error *err);
/* The number that the terminal event will have, if nothing is published before it. */
uint64_t srv_job_last_event(struct srv_job *job);

#endif
