/*
 * Jobs in the store: accepted, started, finished, read, listed. See store.c for threads and locks, store_room.c for what
 * goes when there is no room.
 *
 * A job's row changes only forward: queued → running → ended. The statements say so themselves (WHERE status<=1), so
 * a late word about an ended job changes nothing. What came with the job goes at its end, whatever the end is.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/job_type.h"
#include "server/store/store_db.h"

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    if (text)
        sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, i);
}

/* Of an API key: without one everything is visible. */
static void bind_asker(sqlite3_stmt *s, int i, const char *asker)
{
    bind_text(s, i, asker && *asker ? asker : NULL);
}

static void copy_column(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);

    snprintf(out, size, "%s", text ? (const char *)text : "");
}

static size_t length(const char *text)
{
    return text ? strlen(text) : 0;
}

/* Steps once and reads the row: 0, or ELS_ENOENT when there is none. Gives the statement back. */
static int one_record(struct srv_store *store, struct srv_db *db, sqlite3_stmt *s, struct srv_job_record *out,
                      struct els_error *err)
{
    int rc = sqlite3_step(s), status;

    if (rc == SQLITE_ROW) {
        status = srv_db_record(s, out, err);
        srv_db_note_damage(store, out->sequence, out->id, status, err);
    } else if (rc == SQLITE_DONE) {
        status = ELS_ENOENT;
    } else {
        status = srv_db_fail(db, rc, err);
    }
    srv_db_done(s);
    return status;
}

/* ---- accepting ---- */

static int insert_tensor(struct srv_db *db, int64_t job, const char *name, int64_t image, const void *data,
                         size_t size, const unsigned char *digest, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_ADD_TENSOR, err);

    if (!s)
        return ELS_EIO;
    sqlite3_bind_int64(s, 1, job);
    bind_text(s, 2, name);
    sqlite3_bind_int64(s, 3, image);
    sqlite3_bind_blob64(s, 5, digest, srv_digest_bytes(size), SQLITE_STATIC);
    if (sqlite3_bind_blob64(s, 4, data, size, SQLITE_STATIC) != SQLITE_OK) {
        srv_db_done(s);
        return srv_db_fail(db, SQLITE_TOOBIG, err);
    }
    return srv_db_run(db, s, err);
}

static int insert_job(struct srv_db *db, const struct srv_acceptance *a, int64_t inputs, struct els_error *err)
{
    const struct srv_job_record *r = a->record;
    sqlite3_stmt *s = srv_db_statement(db, SQL_ACCEPT, err);

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, r->id);
    sqlite3_bind_int64(s, 2, (int64_t)strlen(r->params));
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
    sqlite3_bind_int64(s, 18, inputs);
    return srv_db_run(db, s, err);
}

int srv_store_accept(struct srv_store *store, const struct srv_acceptance *a, struct els_error *err)
{
    struct els_buffer digest = ELS_BUFFER_INIT(SIZE_MAX);
    struct srv_db *db = &store->writer;
    size_t texts = strlen(a->record->params);
    int64_t cost = srv_cost_of_job(texts) + (a->inputs ? srv_cost_of_row(a->inputs_size) : 0);
    int status = srv_digest_append(&digest, a->inputs, a->inputs_size);

    if (status < 0) {
        els_buffer_deinit(&digest);
        return els_fail(err, status, NULL, "Out of memory.");
    }
    srv_db_lock(db);
    status = srv_store_has_room(store, texts + a->inputs_size, err);
    if (status == 0)
        status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0) {
        status = insert_job(db, a, cost, err);
        if (status == 0 && a->inputs)
            status = insert_tensor(db, sqlite3_last_insert_rowid(db->handle), SRV_DB_INPUTS, 0, a->inputs,
                                   a->inputs_size, digest.data, err);
        status = srv_db_end(db, status, err);
    }
    if (status == 0)
        atomic_fetch_add(&store->inputs, cost);
    srv_db_unlock(db);
    els_buffer_deinit(&digest);
    return status;
}

int srv_store_find_key(struct srv_store *store, const char *owner, const char *idempotency_key,
                       char id[SRV_ID_SIZE], char body_sha256[65], struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    srv_db_lock(db);
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
    srv_db_unlock(db);
    return status;
}

int srv_store_start(struct srv_store *store, const char *id, int64_t started, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    srv_db_lock(db);
    s = srv_db_statement(db, SQL_START, err);
    if (s) {
        bind_text(s, 1, id);
        sqlite3_bind_int64(s, 2, started);
        status = srv_db_run(db, s, err);
    }
    srv_db_unlock(db);
    return status;
}

/* ---- finishing ---- */

/* The digests of all tensors, in the order in which they are inserted: made before the lock is taken. */
static int digest_tensors(const struct srv_outcome *o, struct els_buffer *out)
{
    int status = 0;

    for (size_t k = 0; k < o->num_tensors; k++) {
        const struct srv_kept_tensor *t = &o->tensors[k];

        for (int64_t i = 0; t->data && i < o->num_images && status == 0; i++)
            status = srv_digest_append(out, t->data + (size_t)i * t->values, t->values * sizeof(float));
    }
    return status;
}

/* What the outcome costs, beside the job's own row. */
static int64_t cost_of_results(const struct srv_outcome *o)
{
    int64_t cost = 0;

    for (size_t k = 0; k < o->num_tensors; k++) {
        size_t bytes = o->tensors[k].values * sizeof(float);

        if (o->tensors[k].data)
            cost += o->num_images * srv_cost_of_row(bytes + srv_digest_bytes(bytes));
    }
    for (int64_t i = 0; o->pictures && i < o->num_pictures; i++)
        cost += srv_cost_of_row(o->pictures[i].size + sizeof(o->pictures[i].sha256));
    return cost;
}

static int insert_results(struct srv_db *db, int64_t job, const struct srv_outcome *o, const unsigned char *digest,
                          struct els_error *err)
{
    int status = 0;

    for (size_t k = 0; k < o->num_tensors; k++) {
        const struct srv_kept_tensor *t = &o->tensors[k];
        size_t bytes = t->values * sizeof(float);

        for (int64_t i = 0; t->data && i < o->num_images && status == 0; i++) {
            status = insert_tensor(db, job, t->name, i, t->data + (size_t)i * t->values, bytes, digest, err);
            digest += srv_digest_bytes(bytes);
        }
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
    }
    return status;
}

static int drop_inputs(struct srv_db *db, int64_t job, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_DROP_INPUTS, err);

    if (!s)
        return ELS_EIO;
    sqlite3_bind_int64(s, 1, job);
    return srv_db_run(db, s, err);
}

static int update_ended(struct srv_db *db, const char *id, const struct srv_outcome *o, int64_t cost,
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
    sqlite3_bind_int64(s, 9, cost);
    status = srv_db_run(db, s, err);
    return status == 0 && sqlite3_changes(db->handle) == 0 ? ELS_ENOENT : status;
}

/* A job that is about to end. */
struct ending {
    int64_t sequence;
    int64_t params; /* bytes */
    int64_t inputs; /* what it has cost until now */
    char owner[SRV_OWNER_SIZE];
};

static int find_ending(struct srv_db *db, const char *id, struct ending *out, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_COSTS, err);
    int rc;

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        *out = (struct ending){sqlite3_column_int64(s, 0), srv_cost_column(s, 1), srv_cost_column(s, 2), ""};
        copy_column(s, 4, out->owner, sizeof(out->owner));
    }
    if (rc == SQLITE_ROW && sqlite3_column_int64(s, 3) > 0)
        rc = SQLITE_DONE; /* it has ended already */
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return 0;
    return rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
}

/* In one transaction, with the writer's lock. */
static int store_outcome(struct srv_db *db, const char *id, const struct ending *job, const struct srv_outcome *o,
                         int64_t cost, const unsigned char *digests, struct els_error *err)
{
    int status = srv_db_execute(db, SQL_BEGIN, err);

    if (status == 0)
        status = drop_inputs(db, job->sequence, err);
    if (status == 0)
        status = insert_results(db, job->sequence, o, digests, err);
    if (status == 0)
        status = update_ended(db, id, o, cost, err);
    if (status == 0 && o->save_as)
        status = srv_db_save_scales(db, o->owner, o->save_as, o->scales, o->finished, err);
    return srv_db_end(db, status, err);
}

/* Only the job's owner ends it, so its row stays as it was found while others have the lock. */
static int find_unlocked(struct srv_db *db, const char *id, struct ending *out, struct els_error *err)
{
    int status;

    srv_db_lock(db);
    status = find_ending(db, id, out, err);
    srv_db_unlock(db);
    return status;
}

/* Only a success can be refused: that a job has ended in another way has to be kept. */
static int charge(struct srv_store *store, const char *owner, int64_t cost, const struct srv_outcome *o,
                  struct els_error *err)
{
    int status, went = 1;

    while ((status = srv_db_charge_owner(store, owner, cost, o->status != SRV_SUCCEEDED, err)) == ELS_ELIMIT && went > 0) {
        went = srv_db_remove_oldest(store, cost, o->finished, err);
        if (went > 0) {
            srv_db_unlock(&store->writer);
            srv_db_give_way(&store->writer);
            srv_db_lock(&store->writer);
        }
    }
    return went < 0 ? went : status;
}

int srv_store_finish(struct srv_store *store, const char *id, const struct srv_outcome *o, struct els_error *err)
{
    struct els_buffer digests = ELS_BUFFER_INIT(SIZE_MAX);
    struct srv_db *db = &store->writer;
    struct ending job = {0};
    int64_t cost = 0;
    int status = find_unlocked(db, id, &job, err);

    if (status == 0 && digest_tensors(o, &digests) < 0)
        status = els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    if (status == 0) {
        cost = cost_of_results(o) +
               srv_cost_of_job((size_t)job.params + length(o->result) + length(o->error) + length(o->engine));
        status = srv_db_make_room(store, cost, o->finished, err);
    }
    if (status == 0) {
        status = charge(store, job.owner, cost, o, err);
        if (status == 0) {
            status = store_outcome(db, id, &job, o, cost, digests.data, err);
            if (status != 0)
                srv_db_charge_owner(store, job.owner, -cost, false, NULL);
        }
        if (status == 0) {
            atomic_fetch_sub(&store->inputs, job.inputs);
            atomic_fetch_add(&store->results, cost);
        }
        srv_db_unlock(db);
    }
    els_buffer_deinit(&digests);
    if (status == ELS_ENOENT)
        els_fail(err, status, NULL, "The job is no longer in the store.");
    return status;
}

/* ---- reading ---- */

int srv_db_is_gone(struct srv_db *db, const char *id, const char *asker, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_IS_GONE, err);
    int rc;

    if (!s)
        return ELS_EIO;
    bind_text(s, 1, id);
    bind_asker(s, 2, asker);
    rc = sqlite3_step(s);
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return SRV_STORE_GONE;
    return rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
}

int srv_store_get(struct srv_store *store, const char *id, const char *asker, struct srv_job_record *out,
                  struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    srv_db_lock(db);
    s = srv_db_statement(db, SQL_GET, err);
    if (s) {
        bind_text(s, 1, id);
        bind_asker(s, 2, asker);
        status = one_record(store, db, s, out, err);
        if (status == ELS_ENOENT)
            status = srv_db_is_gone(db, id, asker, err);
    }
    srv_db_unlock(db);
    return status;
}

int srv_store_next_unfinished(struct srv_store *store, int64_t after, struct srv_job_record *out,
                              struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    srv_db_lock(db);
    s = srv_db_statement(db, SQL_UNFINISHED, err);
    if (s) {
        sqlite3_bind_int64(s, 1, after);
        status = one_record(store, db, s, out, err);
    }
    srv_db_unlock(db);
    return status;
}

/* Calls `each` for every row. The rows of a page are few, and `each` only copies: it may run under the lock. */
static int walk(struct srv_store *store, sqlite3_stmt *s, int (*each)(void *user, const struct srv_job_record *record),
                void *user, struct els_error *err)
{
    int status = 0, rc = SQLITE_ROW;

    while (status == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct srv_job_record record;

        status = srv_db_record(s, &record, err);
        if (srv_db_note_damage(store, record.sequence, record.id, status, err))
            status = 0;
        else if (status == 0 && each(user, &record) != 0)
            status = ELS_ECANCELLED;
        srv_job_record_deinit(&record);
    }
    if (status == 0 && rc != SQLITE_DONE)
        status = srv_db_fail(store->reader, rc, err);
    return status;
}

/* Each has an index that gives its rows in order: no page looks at rows that it does not show. */
static enum srv_statement list_statement(const struct srv_store_query *query, bool owned)
{
    if (query->status < 0)
        return owned ? SQL_LIST_OWNER : SQL_LIST;
    return owned ? SQL_LIST_OWNER_STATUS : SQL_LIST_STATUS;
}

int srv_store_list(struct srv_store *store, const struct srv_store_query *query,
                   int (*each)(void *user, const struct srv_job_record *record), void *user, struct els_error *err)
{
    bool owned = query->owner && *query->owner;
    struct srv_db *db = store->reader;
    struct els_error ours = {0};
    sqlite3_stmt *s;
    int status = ELS_EIO;

    srv_db_lock(db);
    s = srv_db_statement(db, list_statement(query, owned), err);
    if (s) {
        sqlite3_bind_int64(s, 1, query->before);
        sqlite3_bind_int(s, 2, query->limit);
        if (query->status >= 0)
            sqlite3_bind_int(s, 3, query->status);
        if (owned)
            bind_text(s, 4, query->owner);
        status = walk(store, s, each, user, &ours);
        srv_db_done(s);
        if (status < 0 && err)
            *err = ours;
    }
    srv_db_unlock(db);
    return status;
}

/* ---- damaged unfinished jobs ---- */

/* Who the row says it is, where that can be true. */
static int identify(struct srv_db *db, int64_t sequence, char owner[SRV_OWNER_SIZE], char kind[16], int64_t *inputs,
                    struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_IDENTITY, err);
    int rc;

    if (!s)
        return ELS_EIO;
    sqlite3_bind_int64(s, 1, sequence);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        copy_column(s, 1, owner, SRV_OWNER_SIZE);
        copy_column(s, 2, kind, 16);
        *inputs = srv_cost_column(s, 3);
    }
    srv_db_done(s);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
    if (!srv_job_type_find(kind))
        snprintf(kind, 16, "%s", srv_job_type_at(0)->name);
    return 0;
}

int srv_store_condemn(struct srv_store *store, int64_t sequence, int64_t now, const char *error, struct els_error *err)
{
    char owner[SRV_OWNER_SIZE] = "", kind[16] = "";
    int64_t inputs = 0, cost = srv_cost_of_job(length(error));
    struct srv_db *db = &store->writer;
    sqlite3_stmt *s;
    int status = srv_db_make_room(store, cost, now, err);

    if (status < 0)
        return status;
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = identify(db, sequence, owner, kind, &inputs, err);
    if (status == 0)
        status = drop_inputs(db, sequence, err);
    s = status == 0 ? srv_db_statement(db, SQL_CONDEMN, err) : NULL;
    if (s) {
        sqlite3_bind_int64(s, 1, sequence);
        bind_text(s, 2, owner);
        bind_text(s, 3, kind);
        sqlite3_bind_int64(s, 4, now);
        bind_text(s, 5, error ? error : "{}");
        sqlite3_bind_int64(s, 6, cost);
        status = srv_db_run(db, s, err);
    } else if (status == 0) {
        status = ELS_EIO;
    }
    status = srv_db_end(db, status, err);
    if (status == 0) {
        srv_db_charge_owner(store, owner, cost, true, NULL);
        atomic_fetch_sub(&store->inputs, inputs);
        atomic_fetch_add(&store->results, cost);
    }
    srv_db_unlock(db);
    return status;
}
