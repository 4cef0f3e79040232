/*
 * Jobs in the store: accepted, started, finished, listed, removed. See store.c for threads and locks.
 *
 * A job's row changes only forward: queued → running → ended. The statements say so themselves (WHERE status<=1), so
 * a late word about an ended job changes nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "store_db.h"

enum {
    SWEEP_MOST = 64,                       /* jobs removed per sweep: it must not hold up others for long */
    KEEP_TOMBSTONES_MS = 7 * 24 * 3600 * 1000,
    KEEP_TOMBSTONES = 100000,
};

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    if (text)
        sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, i);
}

/* ---- rows to records ---- */

static void copy_column(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);

    snprintf(out, size, "%s", text ? (const char *)text : "");
}

/* True when memory ran out. SQL's NULL gives NULL. */
static bool dup_column(sqlite3_stmt *s, int i, char **out)
{
    const unsigned char *text = sqlite3_column_text(s, i);

    *out = text ? strdup((const char *)text) : NULL;
    return !*out && sqlite3_column_type(s, i) != SQLITE_NULL;
}

int srv_db_record(sqlite3_stmt *s, struct srv_record *out, struct els_error *err)
{
    int status = sqlite3_column_int(s, 4);
    bool failed;

    *out = (struct srv_record){0};
    if (status < 0 || status >= SRV_STATUS_COUNT)
        return els_fail(err, ELS_EFORMAT, NULL, "The job store is damaged: a job has status %d.", status);
    out->sequence = sqlite3_column_int64(s, 0);
    copy_column(s, 1, out->id, sizeof(out->id));
    copy_column(s, 2, out->kind, sizeof(out->kind));
    copy_column(s, 3, out->owner, sizeof(out->owner));
    out->status = (enum srv_status)status;
    out->created = sqlite3_column_int64(s, 5);
    out->started = sqlite3_column_int64(s, 6);
    out->finished = sqlite3_column_int64(s, 7);
    failed = dup_column(s, 8, &out->params);
    failed |= dup_column(s, 9, &out->result);
    failed |= dup_column(s, 10, &out->error);
    failed |= dup_column(s, 11, &out->engine);
    copy_column(s, 12, out->bank_sha256, sizeof(out->bank_sha256));
    out->shape = (struct els_shape){sqlite3_column_int(s, 13), sqlite3_column_int(s, 14), sqlite3_column_int(s, 15)};
    out->num_images = sqlite3_column_int64(s, 16);
    out->num_steps = sqlite3_column_int(s, 17);
    out->outputs = (unsigned)sqlite3_column_int(s, 18);
    out->seed = (uint64_t)sqlite3_column_int64(s, 19);
    out->last_event = (uint64_t)sqlite3_column_int64(s, 20);
    out->progress = (struct srv_progress){.step = sqlite3_column_int(s, 21), .steps = out->num_steps, .eta_seconds = -1};
    out->depth = sqlite3_column_int(s, 22);
    if (!failed)
        return 0;
    srv_record_deinit(out);
    return els_fail(err, ELS_ENOMEM, NULL, "Memory is out.");
}

/* Steps once and reads the row: 0, or ELS_ENOENT when there is none. Gives the statement back. */
static int one_record(struct srv_db *db, sqlite3_stmt *s, struct srv_record *out, struct els_error *err)
{
    int rc = sqlite3_step(s), status;

    if (rc == SQLITE_ROW)
        status = srv_db_record(s, out, err);
    else if (rc == SQLITE_DONE)
        status = ELS_ENOENT;
    else
        status = srv_db_fail(db, rc, err);
    srv_db_done(s);
    return status;
}

/* ---- accepting ---- */

static int insert_tensor(struct srv_db *db, int64_t job, const char *name, int64_t image, const void *data,
                         size_t size, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_ADD_TENSOR, err);

    if (!s)
        return ELS_EIO;
    sqlite3_bind_int64(s, 1, job);
    bind_text(s, 2, name);
    sqlite3_bind_int64(s, 3, image);
    if (sqlite3_bind_blob64(s, 4, data, size, SQLITE_STATIC) != SQLITE_OK) {
        srv_db_done(s);
        return srv_db_fail(db, SQLITE_TOOBIG, err);
    }
    return srv_db_run(db, s, err);
}

static int insert_job(struct srv_db *db, const struct srv_acceptance *a, struct els_error *err)
{
    const struct srv_record *r = a->record;
    sqlite3_stmt *s = srv_db_statement(db, SQL_ACCEPT, err);

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, r->id);
    sqlite3_bind_int64(s, 2, (int64_t)(strlen(r->params) + a->inputs_size));
    bind_text(s, 3, r->kind);
    bind_text(s, 4, r->owner);
    sqlite3_bind_int64(s, 5, r->created);
    sqlite3_bind_int(s, 6, r->shape.c);
    sqlite3_bind_int(s, 7, r->shape.h);
    sqlite3_bind_int(s, 8, r->shape.w);
    sqlite3_bind_int64(s, 9, r->num_images);
    sqlite3_bind_int(s, 10, r->num_steps);
    sqlite3_bind_int(s, 11, (int)r->outputs);
    sqlite3_bind_int64(s, 12, (int64_t)r->seed);
    bind_text(s, 13, r->bank_sha256);
    bind_text(s, 14, a->idempotency_key);
    bind_text(s, 15, a->body_sha256);
    bind_text(s, 16, r->params);
    sqlite3_bind_int(s, 17, r->depth);
    return srv_db_run(db, s, err);
}

int srv_store_accept(struct srv_store *store, const struct srv_acceptance *a, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int status;

    pthread_mutex_lock(&db->lock);
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = insert_job(db, a, err);
    if (status == 0 && a->inputs)
        status = insert_tensor(db, sqlite3_last_insert_rowid(db->handle), SRV_DB_INPUTS, 0, a->inputs,
                               a->inputs_size, err);
    status = srv_db_end(db, status, err);
    pthread_mutex_unlock(&db->lock);
    return status;
}

int srv_store_find_key(struct srv_store *store, const char *owner, const char *idempotency_key,
                       char id[SRV_ID_SIZE], char body_sha256[65], struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_FIND_KEY, err);
    if (s) {
        bind_text(s, 1, owner);
        bind_text(s, 2, idempotency_key);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW) {
            copy_column(s, 0, id, SRV_ID_SIZE);
            copy_column(s, 1, body_sha256, 65);
            status = 0;
        } else {
            status = rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
        }
        srv_db_done(s);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

int srv_store_start(struct srv_store *store, const char *id, int64_t started, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_START, err);
    if (s) {
        bind_text(s, 1, id);
        sqlite3_bind_int64(s, 2, started);
        status = srv_db_run(db, s, err);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

/* ---- finishing ---- */

static int job_sequence(struct srv_db *db, const char *id, int64_t *out, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_SEQUENCE, err);
    int rc;

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return 0;
    return rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
}

static int insert_results(struct srv_db *db, int64_t job, const struct srv_outcome *o, int64_t *bytes,
                          struct els_error *err)
{
    int status = 0;

    for (size_t k = 0; k < o->num_tensors; k++) {
        const struct srv_kept_tensor *t = &o->tensors[k];

        if (!t->data)
            continue;
        for (int64_t i = 0; i < o->num_images && status == 0; i++)
            status = insert_tensor(db, job, t->name, i, t->data + (size_t)i * t->values, t->values * sizeof(float),
                                   err);
        *bytes += o->num_images * (int64_t)(t->values * sizeof(float));
    }
    for (int64_t i = 0; o->pictures && i < o->num_pictures && status == 0; i++) {
        sqlite3_stmt *s = srv_db_statement(db, SQL_ADD_PICTURE, err);

        if (!s)
            return ELS_EIO;
        sqlite3_bind_int64(s, 1, job);
        sqlite3_bind_int64(s, 2, o->pictures[i].image);
        bind_text(s, 3, o->pictures[i].sha256);
        sqlite3_bind_blob64(s, 4, o->pictures[i].png, o->pictures[i].size, SQLITE_STATIC);
        status = srv_db_run(db, s, err);
        *bytes += (int64_t)o->pictures[i].size;
    }
    return status;
}

static int update_ended(struct srv_db *db, const char *id, const struct srv_outcome *o, int64_t bytes,
                        struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_FINISH, err);
    int status;

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    sqlite3_bind_int(s, 2, (int)o->status);
    sqlite3_bind_int64(s, 3, o->finished);
    sqlite3_bind_int64(s, 4, (int64_t)o->last_event);
    bind_text(s, 5, o->result);
    bind_text(s, 6, o->error);
    bind_text(s, 7, o->engine);
    sqlite3_bind_int(s, 8, o->steps_done);
    sqlite3_bind_int64(s, 9, bytes + (o->result ? (int64_t)strlen(o->result) : 0));
    status = srv_db_run(db, s, err);
    return status == 0 && sqlite3_changes(db->handle) == 0 ? ELS_ENOENT : status;
}

int srv_store_finish(struct srv_store *store, const char *id, const struct srv_outcome *outcome,
                     struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int64_t job = 0, bytes = 0;
    int status;

    pthread_mutex_lock(&db->lock);
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = job_sequence(db, id, &job, err);
    if (status == 0)
        status = insert_results(db, job, outcome, &bytes, err);
    if (status == 0)
        status = update_ended(db, id, outcome, bytes, err);
    if (status == 0 && outcome->save_as)
        status = srv_db_save_scales(db, outcome->owner, outcome->save_as, outcome->scales, outcome->finished, err);
    status = srv_db_end(db, status, err);
    pthread_mutex_unlock(&db->lock);
    if (status == ELS_ENOENT)
        els_fail(err, status, NULL, "The job is no longer in the store.");
    return status;
}

/* ---- reading ---- */

static int is_gone(struct srv_db *db, const char *id, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_IS_GONE, err);
    int rc;

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    rc = sqlite3_step(s);
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return SRV_STORE_GONE;
    return rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
}

int srv_store_get(struct srv_store *store, const char *id, struct srv_record *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_GET, err);
    if (s) {
        bind_text(s, 1, id);
        status = one_record(db, s, out, err);
        if (status == ELS_ENOENT)
            status = is_gone(db, id, err);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

int srv_store_next_unfinished(struct srv_store *store, int64_t after, struct srv_record *out,
                              struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_UNFINISHED, err);
    if (s) {
        sqlite3_bind_int64(s, 1, after);
        status = one_record(db, s, out, err);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

/* Calls `each` for every row. The rows of a page are few, and `each` only copies: it may run under the lock. */
static int walk(struct srv_db *db, sqlite3_stmt *s, int (*each)(void *user, const struct srv_record *record),
                void *user, struct els_error *err)
{
    int status = 0, rc = SQLITE_ROW;

    while (status == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct srv_record record;

        status = srv_db_record(s, &record, err);
        if (status == 0 && each(user, &record) != 0)
            status = ELS_ECANCELLED;
        srv_record_deinit(&record);
    }
    if (status == 0 && rc != SQLITE_DONE)
        status = srv_db_fail(db, rc, err);
    return status;
}

int srv_store_list(struct srv_store *store, const struct srv_store_query *query,
                   int (*each)(void *user, const struct srv_record *record), void *user, struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, query->status < 0 ? SQL_LIST : SQL_LIST_STATUS, err);
    if (s) {
        sqlite3_bind_int64(s, 1, query->before);
        sqlite3_bind_int(s, 2, query->limit);
        if (query->status >= 0)
            sqlite3_bind_int(s, 3, query->status);
        if (query->owner && *query->owner)
            bind_text(s, 4, query->owner);
        status = walk(db, s, each, user, err);
        srv_db_done(s);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

/* ---- removing ---- */

static int bury(struct srv_db *db, const char *id, int64_t now, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_BURY, err);

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    sqlite3_bind_int64(s, 2, now);
    return srv_db_run(db, s, err);
}

static int remove_job(struct srv_db *db, const char *id, int64_t now, struct els_error *err)
{
    sqlite3_stmt *s;
    int status = srv_db_execute(db, SQL_BEGIN, err);

    if (status == 0) {
        s = srv_db_statement(db, SQL_REMOVE, err);
        status = ELS_EIO;
        if (s) {
            bind_text(s, 1, id);
            status = srv_db_run(db, s, err);
        }
    }
    if (status == 0 && sqlite3_changes(db->handle) == 0)
        status = is_gone(db, id, err);
    if (status == 0)
        status = bury(db, id, now, err);
    return srv_db_end(db, status, err);
}

int srv_store_remove(struct srv_store *store, const char *id, int64_t now, struct els_error *err)
{
    int status;

    pthread_mutex_lock(&store->writer.lock);
    status = remove_job(&store->writer, id, now, err);
    pthread_mutex_unlock(&store->writer.lock);
    return status;
}

/* The ended job that goes next: 0, or ELS_ENOENT when none has to. */
static int next_to_go(struct srv_db *db, int64_t oldest, int64_t most_bytes, char id[SRV_ID_SIZE],
                      struct els_error *err)
{
    sqlite3_stmt *total = srv_db_statement(db, SQL_TOTAL_BYTES, err);
    sqlite3_stmt *ended = srv_db_statement(db, SQL_OLDEST_ENDED, err);
    int status = ELS_EIO, rc;

    if (!total || !ended)
        return status;
    rc = sqlite3_step(total);
    if (rc == SQLITE_ROW)
        rc = sqlite3_step(ended);
    if (rc == SQLITE_ROW) {
        bool goes = sqlite3_column_int64(ended, 1) < oldest || sqlite3_column_int64(total, 0) > most_bytes;

        copy_column(ended, 0, id, SRV_ID_SIZE);
        status = goes ? 0 : ELS_ENOENT;
    } else {
        status = rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
    }
    srv_db_done(total);
    srv_db_done(ended);
    return status;
}

static int forget_tombstones(struct srv_db *db, int64_t now, struct els_error *err)
{
    sqlite3_stmt *old = srv_db_statement(db, SQL_FORGET_OLD, err);
    sqlite3_stmt *many = srv_db_statement(db, SQL_FORGET_MANY, err);
    int status;

    if (!old || !many)
        return ELS_EIO;
    sqlite3_bind_int64(old, 1, now - KEEP_TOMBSTONES_MS);
    status = srv_db_run(db, old, err);
    if (status == 0) {
        sqlite3_bind_int64(many, 1, KEEP_TOMBSTONES);
        status = srv_db_run(db, many, err);
    }
    return status;
}

int srv_store_sweep(struct srv_store *store, int64_t now, int64_t seconds, int64_t bytes, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    char id[SRV_ID_SIZE];
    int status = 0, removed = 0;

    while (status == 0 && removed < SWEEP_MOST) {
        /* The lock is given up between jobs: an acceptance waits for one removal at most. */
        pthread_mutex_lock(&db->lock);
        status = next_to_go(db, now - seconds * 1000, bytes, id, err);
        if (status == 0)
            status = remove_job(db, id, now, err);
        pthread_mutex_unlock(&db->lock);
        removed += status == 0;
    }
    if (status == 0 || status == ELS_ENOENT) {
        pthread_mutex_lock(&db->lock);
        status = forget_tombstones(db, now, err);
        if (status == 0 && removed > 0)
            status = srv_db_execute(db, SQL_VACUUM, err);
        pthread_mutex_unlock(&db->lock);
    }
    return status < 0 ? status : removed;
}

int srv_store_probe(struct srv_store *store, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int status;

    pthread_mutex_lock(&db->lock);
    /* A tombstone so old that it is forgotten with the next breath. */
    status = bury(db, "probe", 0, err);
    if (status == 0)
        status = forget_tombstones(db, KEEP_TOMBSTONES_MS + 1, err);
    pthread_mutex_unlock(&db->lock);
    return status;
}
