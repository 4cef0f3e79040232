/*
 * run: a job that is being computed: the work of its kind, and what it has produced so far.
 *
 *     struct srv_job_run *run = srv_job_run_new(job);             // takes the reference, unless it is NULL
 *     struct srv_compute with = {pool, &turn, &stop};
 *     srv_job_run_begin(run, &with, &err);
 *     while (!srv_job_run_finished(run) && srv_job_runs_step(&run, 1, &with, &err) == 0)
 *         ;
 *     srv_job_run_outcome(run, &with, &outcome, &err);        // the job succeeded: everything the store keeps
 *     run = srv_job_run_free(run);
 *
 * Whatever computes stands still while it is another's turn (turns.h). Only srv_job_run_left may be asked from another
 * thread than the one that computes.
 */
#ifndef SRV_JOB_RUN_H
#define SRV_JOB_RUN_H

#include "els/pool.h"
#include "server/base/account.h"
#include "server/base/job_type.h"
#include "server/jobs/job.h"
#include "server/jobs/turns.h"

enum { SRV_MOST_RUNS = 8 }; /* computed beside each other */

/* What a step computes with. */
struct srv_compute {
    struct els_pool *pool;
    struct srv_turn *turn;
    const atomic_bool *stop; /* true: nothing more is to be computed */
};

struct srv_job_run {
    struct srv_job_run *next_run; /* of the scheduler's active runs */
    struct srv_job *job;      /* a reference */
    const struct srv_job_type *kind;
    int64_t group;            /* the same for runs that began together, to share passes */
    bool begun;               /* srv_job_run_begin has succeeded */
    int next;                 /* the step that runs next; num_steps when all are done */
    struct srv_charge charge; /* of params->run_bytes */
    void *work;               /* the kind's own */
    double limit;             /* seconds that it may compute; 0: no limit */
    double total, done;       /* work of all steps and of those before `next`, in the measure of srv_params.cost */
    _Atomic double left;      /* work */
    double share;             /* seconds of steps that it has had, to stay together with its group */
    double seconds;           /* of computing, its own part of passes that it shared */
    int64_t next_preview;     /* not before, monotonic ms */
    /* what it has produced: tensors by the row of kind->outputs, data NULL where not asked for */
    struct srv_kept_tensor kept[SRV_MAX_OUTPUTS];
    float *tensors[SRV_MAX_OUTPUTS];
    struct srv_kept_picture *pictures; /* [num_pictures] */
    int64_t num_pictures;
    char *result, *engine; /* JSON */
    char *scales;          /* JSON, to be saved as `save_as` */
    const char *save_as;   /* the job's, or NULL */
};

/* Allocates nothing large. NULL: out of memory. */
struct srv_job_run *srv_job_run_new(struct srv_job *job);
/* Allocates what it produces and prepares its steps. */
int srv_job_run_begin(struct srv_job_run *run, const struct srv_compute *with, struct els_error *err);
/* Gives the job's reference back too; NULL is fine. Returns NULL. */
struct srv_job_run *srv_job_run_free(struct srv_job_run *run);

bool srv_job_run_finished(const struct srv_job_run *run);
/* Has it computed for as long as it may? */
bool srv_job_run_late(const struct srv_job_run *run);
/* Computing that is left, in the measure of srv_params.cost. Any thread. */
double srv_job_run_left(const struct srv_job_run *run);
/* Do the next steps of both ask the bank the same, so that one pass can serve them? */
bool srv_job_runs_alike(const struct srv_job_run *a, const struct srv_job_run *b);
/* One step of `count` ≥ 1 different runs, each alike to the first. ELS_ECANCELLED when a job of theirs was cancelled or
 * is late, or `stop` became true: then, as after an error, none has moved. An error may be about any of them. */
int srv_job_runs_step(struct srv_job_run *const *runs, int count, const struct srv_compute *with, struct els_error *err);
/* Fills *outcome, which borrows from the run. ELS_ECANCELLED, as above; it may be asked for again. */
int srv_job_run_outcome(struct srv_job_run *run, const struct srv_compute *with, struct srv_outcome *outcome,
                    struct els_error *err);
/* Name, version and certified error of the engine, as JSON text of the run. NULL: out of memory. */
const char *srv_job_run_engine(struct srv_job_run *run);

/* ---- for kinds ---- */

/* A part of a step, from `first` on and `share` of it long: its progress as that of the whole. */
struct srv_part {
    const struct els_progress *whole;
    double first, share;
};
/* Borrows `part`. */
struct els_progress srv_part_watch(struct srv_part *part);

/* What steps cost has changed: run->total and what is left are added up again. */
void srv_job_run_plan(struct srv_job_run *run);
/* Copies [N,size] into slot `slot` of output i, for each image; does nothing when it is not kept. */
void srv_job_run_keep(struct srv_job_run *run, int output, int slot, const float *from, size_t size);

#endif
