/*
 * store: where jobs and their results live: one SQLite database, state_dir/jobs.sqlite3 (WAL), or memory.
 *
 *     struct srv_store *store = NULL;
 *     if (srv_store_open(&store, config->state_dir, &err) < 0)
 *         …                                           // err says what is wrong with which file
 *     srv_store_accept(store, &acceptance, &err);     // on disk when it returns
 *     srv_store_finish(store, id, &outcome, &err);    // status and results, in one transaction
 *     store = srv_store_close(store);
 *
 * Any thread. Calls may wait for the disk: never from an HTTP thread. Results are one blob of little-endian
 * float32 per tensor and image, so one step is read without reading the rest.
 */
#ifndef SRV_STORE_H
#define SRV_STORE_H

#include <stdbool.h>

#include "els/mem.h"
#include "server/base/account.h"
#include "server/store/job_record.h"

struct srv_store;

enum {
    SRV_STORE_GONE = 1,  /* the job was deleted or has expired */
    SRV_STORE_TAKEN = 2, /* the idempotency key is in use */
};

/*
 * What the store may hold, in bytes as it counts them: payloads with the pages, rows and indexes that they take.
 * 0 or less: any amount. Without a call there are no limits.
 *
 * `results` is of ended jobs and holds at every moment: a result is stored only once so many of the oldest have gone
 * that it fits, and one that could never fit is refused. `inputs` is of unfinished jobs, their parameters and uploaded
 * tensors: it never makes a result go, and a job beyond it is not accepted.
 */
struct srv_store_limits {
    int64_t results, inputs;
};
void srv_store_limit(struct srv_store *store, const struct srv_store_limits *limits);

/* From now on results are charged to their owners, what is there already without a limit: as memory without a state_dir,
 * else as disk. When a charge is refused, the oldest results go, as for want of room; ELS_ELIMIT from srv_store_finish,
 * with the limit as its field: not even that helped. 0 or ELS_ENOMEM and the like. Before any thread uses the store. */
int srv_store_charge(struct srv_store *store, struct srv_accounts *accounts, struct els_error *err);

struct srv_store_usage {
    int64_t results, inputs; /* bytes, counted as the limits are */
    int64_t expired;         /* jobs that went for want of room or for their age since the store was opened */
};
/* Any thread; never waits. */
struct srv_store_usage srv_store_usage(const struct srv_store *store);

/* A row is not what we would have written; called once for each, with a sentence. `id` may be "". From inside a call
 * to the store: it must not call the store again. */
void srv_store_on_damage(struct srv_store *store, void (*damaged)(void *user, const char *id, const char *why),
                         void *user);
/* Is the error about one damaged row, and not about the store as a whole? */
bool srv_store_is_damage(const struct els_error *err);

/* Creates state_dir (0700) and the file (0600) when absent; "" means memory only. ELS_EFORMAT: not our database, or
 * damaged; ELS_EIO: not readable, or another daemon holds it. */
int srv_store_open(struct srv_store **out, const char *state_dir, struct els_error *err);
/* NULL is fine. Returns NULL. */
struct srv_store *srv_store_close(struct srv_store *store);

struct srv_acceptance {
    const struct srv_job_record *record;
    const void *inputs; /* uploaded tensors as one safetensors container, or NULL */
    size_t inputs_size;
    const char *idempotency_key; /* or NULL */
    const char *body_sha256;     /* with idempotency_key */
};

/* Would so many bytes of parameters and tensors be accepted now? 0; ELS_ELIMIT with field "queue_bytes" (others have to
 * end first) or "inputs" (never). A job accepted meanwhile may take the room: srv_store_accept asks again. */
int srv_store_has_room(struct srv_store *store, size_t bytes, struct els_error *err);

/* What so many bytes of parameters and tensors are counted as. */
int64_t srv_store_input_cost(size_t bytes);

/* Writes a new queued job. 0, SRV_STORE_TAKEN, or a negative status; ELS_ELIMIT as above. */
int srv_store_accept(struct srv_store *store, const struct srv_acceptance *acceptance, struct els_error *err);
/* 0 and the job's id and body; ELS_ENOENT. */
int srv_store_find_key(struct srv_store *store, const char *owner, const char *idempotency_key,
                       char id[SRV_ID_SIZE], char body_sha256[65], struct els_error *err);
/* Queued → running. */
int srv_store_start(struct srv_store *store, const char *id, int64_t started, struct els_error *err);

struct srv_kept_tensor {
    const char *name;
    size_t values;     /* per image */
    const float *data; /* [num_images, values]; NULL: not kept */
};

enum { SRV_PICTURE_SHEET = -1 };

struct srv_kept_picture {
    int64_t image; /* or SRV_PICTURE_SHEET */
    void *png;
    size_t size;
    char sha256[65];
};

struct srv_outcome {
    enum srv_status status; /* an ended one */
    int64_t finished;
    uint64_t last_event;
    int steps_done;
    const char *result, *error, *engine; /* JSON, or NULL */
    int64_t num_images;
    const struct srv_kept_tensor *tensors;
    size_t num_tensors;
    const struct srv_kept_picture *pictures; /* [num_pictures], or NULL */
    int64_t num_pictures;
    const char *owner, *save_as, *scales; /* locality scales (JSON) to be saved under a name of the owner's; or NULL */
};

/* All or nothing; saved scales included. The job's inputs go. The oldest ended jobs go before, in transactions of their
 * own, until the outcome fits; ELS_ELIMIT with field "retention_bytes": it never would. */
int srv_store_finish(struct srv_store *store, const char *id, const struct srv_outcome *outcome,
                     struct els_error *err);

/* 0 and *out is to be deinited; SRV_STORE_GONE; ELS_ENOENT; ELS_EFORMAT (srv_store_is_damage); another negative
 * status. `asker`: only what is, or was, of that owner exists; NULL or "": all. */
int srv_store_get(struct srv_store *store, const char *id, const char *asker, struct srv_job_record *out,
                  struct els_error *err);

struct srv_store_query {
    int status;     /* of enum srv_status; −1: any */
    const char *owner; /* NULL or "": any */
    int64_t before; /* only sequences below it; INT64_MAX: from the newest */
    int limit;
};
/* Newest first, without `result`; damaged rows are left out. `each` borrows the record; non-zero from it stops the walk with ELS_ECANCELLED. */
int srv_store_list(struct srv_store *store, const struct srv_store_query *query,
                   int (*each)(void *user, const struct srv_job_record *record), void *user, struct els_error *err);

/* The oldest queued or running job with a sequence above `after`: 0, or ELS_ENOENT. For queueing again at start.
 * ELS_EFORMAT with srv_store_is_damage: out->sequence is set, nothing else; see srv_store_condemn. */
int srv_store_next_unfinished(struct srv_store *store, int64_t after, struct srv_job_record *out,
                              struct els_error *err);

/* A damaged unfinished job ends as failed: what cannot be made sense of in its row is replaced by neutral values, and
 * `error` (JSON) says why. */
int srv_store_condemn(struct srv_store *store, int64_t sequence, int64_t now, const char *error, struct els_error *err);

/* Removes a job with its results and leaves a tombstone. 0, SRV_STORE_GONE, or ELS_ENOENT. `asker` as above. */
int srv_store_remove(struct srv_store *store, const char *id, const char *asker, int64_t now, struct els_error *err);

/*
 * One bounded piece of what there is to tidy: some ended jobs that are older than `seconds` or beyond the limit, old
 * tombstones, and some of the file's free pages, which are given back. 1: there is more; 0; or a negative status.
 */
int srv_store_tidy(struct srv_store *store, int64_t now, int64_t seconds, struct els_error *err);

/* Writes a little and takes it back: 0 when the store can be written to. */
int srv_store_probe(struct srv_store *store, struct els_error *err);

/* Reads `values` values of four bytes of a tensor of one image, beginning with value `first`. ELS_ENOENT: it is not
 * kept. ELS_EFORMAT: its size is not what the job's row implies, or a piece that was read has another digest than when
 * it was stored. */
int srv_store_read_tensor(struct srv_store *store, const char *id, const char *name, int64_t image,
                          size_t first, size_t values, void *out, struct els_error *err);
/* Appends the PNG of a final image, or of the sheet. ELS_EFORMAT: it has another SHA-256 than when it was stored. */
int srv_store_read_picture(struct srv_store *store, const char *id, int64_t image, struct els_buffer *out,
                           char sha256[65], struct els_error *err);

/* Appends the uploaded tensors of a job, as they were accepted. ELS_ENOENT: there were none. */
int srv_store_read_inputs(struct srv_store *store, const char *id, struct els_buffer *out, struct els_error *err);

/* ---- locality scales that people saved under a name; each owner has names of its own ---- */

enum {
    SRV_SCALES_NAME_SIZE = 65,
    SRV_SCALES_MOST = 1000,          /* of one owner */
    SRV_SCALES_MOST_BYTES = 64 << 10, /* of one schedule as JSON */
};

struct srv_saved_scales {
    char name[SRV_SCALES_NAME_SIZE];
    char *scales; /* JSON: {"t":[…],"p":[…]} */
    int64_t saved; /* ms since 1970 */
};

void srv_saved_scales_deinit(struct srv_saved_scales *s);
/* Saves, or replaces what had the name. ELS_ELIMIT: the owner has SRV_SCALES_MOST others already (field "save_as"), or
 * the schedule has more than SRV_SCALES_MOST_BYTES (field "scales"). */
int srv_store_save_scales(struct srv_store *store, const char *owner, const char *name, const char *scales,
                          int64_t now, struct els_error *err);
/* 0 and *out is to be deinited; ELS_ENOENT; another negative status. */
int srv_store_get_scales(struct srv_store *store, const char *owner, const char *name,
                         struct srv_saved_scales *out, struct els_error *err);
/* 0, or ELS_ENOENT. */
int srv_store_remove_scales(struct srv_store *store, const char *owner, const char *name, struct els_error *err);
/* In order of names, those after `after` ("": from the first); damaged ones are left out. `each` borrows; non-zero from
 * it stops the walk with ELS_ECANCELLED. */
int srv_store_list_scales(struct srv_store *store, const char *owner, const char *after,
                          int (*each)(void *user, const struct srv_saved_scales *s), void *user,
                          struct els_error *err);

#endif
