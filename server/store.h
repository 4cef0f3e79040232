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

#include "mem.h"
#include "record.h"

struct srv_store;

enum {
    SRV_STORE_GONE = 1,  /* the job was deleted or has expired */
    SRV_STORE_TAKEN = 2, /* the idempotency key is in use */
};

/* Creates state_dir (0700) and the file (0600) when absent; "" means memory only. ELS_EFORMAT: not our database, or
 * damaged; ELS_EIO: not readable, or another daemon holds it. */
int srv_store_open(struct srv_store **out, const char *state_dir, struct els_error *err);
/* NULL is fine. Returns NULL. */
struct srv_store *srv_store_close(struct srv_store *store);

struct srv_acceptance {
    const struct srv_record *record;
    const void *inputs; /* uploaded tensors as one safetensors container, or NULL */
    size_t inputs_size;
    const char *idempotency_key; /* or NULL */
    const char *body_sha256;     /* with idempotency_key */
};

/* Writes a new queued job. 0, SRV_STORE_TAKEN, or a negative status. */
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

/* All or nothing; saved scales included. */
int srv_store_finish(struct srv_store *store, const char *id, const struct srv_outcome *outcome,
                     struct els_error *err);

/* 0 and *out is to be deinited; SRV_STORE_GONE; ELS_ENOENT; another negative status. */
int srv_store_get(struct srv_store *store, const char *id, struct srv_record *out, struct els_error *err);

struct srv_store_query {
    int status;     /* of enum srv_status; −1: any */
    const char *owner; /* NULL or "": any */
    int64_t before; /* only sequences below it; INT64_MAX: from the newest */
    int limit;
};
/* Newest first. `each` borrows the record; non-zero from it stops the walk with ELS_ECANCELLED. */
int srv_store_list(struct srv_store *store, const struct srv_store_query *query,
                   int (*each)(void *user, const struct srv_record *record), void *user, struct els_error *err);

/* The oldest queued or running job with a sequence above `after`: 0, or ELS_ENOENT. For queueing again at start. */
int srv_store_next_unfinished(struct srv_store *store, int64_t after, struct srv_record *out,
                              struct els_error *err);

/* Removes a job with its results and leaves a tombstone. 0, SRV_STORE_GONE, or ELS_ENOENT. */
int srv_store_remove(struct srv_store *store, const char *id, int64_t now, struct els_error *err);

/*
 * Removes ended jobs that are older than `seconds`, then the oldest until what is left takes at most
 * `bytes`; a bounded number per call. Returns how many went, or a negative status.
 */
int srv_store_sweep(struct srv_store *store, int64_t now, int64_t seconds, int64_t bytes, struct els_error *err);

/* Writes a little and takes it back: 0 when the store can be written to. */
int srv_store_probe(struct srv_store *store, struct els_error *err);

/* Reads `values` values of four bytes of a tensor of one image, beginning with value `first`. ELS_ENOENT: it is not
 * kept. */
int srv_store_read_tensor(struct srv_store *store, const char *id, const char *name, int64_t image,
                          size_t first, size_t values, void *out, struct els_error *err);
/* Appends the PNG of a final image, or of the sheet. */
int srv_store_read_picture(struct srv_store *store, const char *id, int64_t image, struct els_buffer *out,
                           char sha256[65], struct els_error *err);

/* Appends the uploaded tensors of a job, as they were accepted. ELS_ENOENT: there were none. */
int srv_store_read_inputs(struct srv_store *store, const char *id, struct els_buffer *out, struct els_error *err);

/* ---- locality scales that people saved under a name; each owner has names of its own ---- */

enum { SRV_SCALES_NAME_SIZE = 65, SRV_SCALES_MOST = 1000 };

struct srv_saved_scales {
    char name[SRV_SCALES_NAME_SIZE];
    char *scales; /* JSON: {"t":[…],"p":[…]} */
    int64_t saved; /* ms since 1970 */
};

void srv_saved_scales_deinit(struct srv_saved_scales *s);
/* Saves, or replaces what had the name. ELS_ELIMIT: the owner has SRV_SCALES_MOST others already. */
int srv_store_save_scales(struct srv_store *store, const char *owner, const char *name, const char *scales,
                          int64_t now, struct els_error *err);
/* 0 and *out is to be deinited; ELS_ENOENT; another negative status. */
int srv_store_get_scales(struct srv_store *store, const char *owner, const char *name,
                         struct srv_saved_scales *out, struct els_error *err);
/* 0, or ELS_ENOENT. */
int srv_store_remove_scales(struct srv_store *store, const char *owner, const char *name, struct els_error *err);
/* In order of names. `each` borrows; non-zero from it stops the walk with ELS_ECANCELLED. */
int srv_store_list_scales(struct srv_store *store, const char *owner,
                          int (*each)(void *user, const struct srv_saved_scales *s), void *user,
                          struct els_error *err);

#endif
