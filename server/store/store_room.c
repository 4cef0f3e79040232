/*
 * Room in the store: what rows cost, the totals, what goes when there is no room, and the file's pages afterwards.
 *
 * The totals are counted once, when the store is opened, and kept from then on: every transaction that changes them tells
 * by how much, once it has been committed. No call ever adds up rows again, so none takes longer with 200,000 jobs than
 * with two.
 *
 * `results` (ended jobs) is at most its limit after every transaction: srv_db_make_room removes the oldest before a result
 * is inserted, in transactions of at most GO_TOGETHER jobs and about GO_BYTES, and gives up the lock in between. `inputs`
 * (unfinished jobs) makes nothing go: what is beyond its limit is not accepted.
 *
 * Deleting leaves free pages in the file, which the next results use. What is more than SLACK_PAGES is given back, a
 * little in each call of srv_store_tidy, which the scheduler makes between steps.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "server/store/store_db.h"

enum {
    GO_TOGETHER = 32,      /* jobs in one transaction */
    GO_BYTES = 16 << 20,   /* the last one of a transaction may be larger */
    KEEP_TOMBSTONES_MS = 7 * 24 * 3600 * 1000,
    KEEP_TOMBSTONES = 100000,
    FORGET_TOGETHER = 512, /* tombstones in one transaction */
    SLACK_PAGES = 1024,    /* free pages that are left in the file */
    MOST_WAL = 64 << 20,   /* bytes; beyond it the log is cut back, once it has been folded into the file */
    PAGE = 4096,
    CELL = 64,             /* of a row: its header, its entries in the indexes, its share of inner pages */
};

/* ---- what rows cost ---- */

/*
 * SQLite's file format, section "B-tree cell payload": a payload of more than PAGE − 35 bytes is cut so that what
 * overflows fills whole pages, each with a link of four bytes, if what is left fits into the leaf; else the least stays.
 * Leaves are seldom full: an eighth more for what is in them.
 */
int64_t srv_cost_of_row(size_t payload)
{
    const size_t most = PAGE - 35, least = (PAGE - 12) * 32 / 255 - 23, page = PAGE - 4;
    size_t local = payload, overflow = 0;

    if (payload > most) {
        local = least + (payload - least) % page;
        if (local > most)
            local = least;
        overflow = (payload - local + page - 1) / page;
    }
    return (int64_t)(local + local / 8 + overflow * PAGE + CELL);
}

int64_t srv_cost_of_job(size_t texts)
{
    enum { NUMBERS = 256, INDEXES = 6 };

    return srv_cost_of_row(texts + NUMBERS) + INDEXES * CELL;
}

int64_t srv_cost_column(sqlite3_stmt *s, int i)
{
    static const int64_t most = INT64_C(1) << 50;
    int64_t cost = sqlite3_column_type(s, i) == SQLITE_INTEGER ? sqlite3_column_int64(s, i) : 0;

    return cost >= 0 && cost <= most ? cost : 0;
}

/* ---- totals ---- */

/* The rows of a statement that gives a number each; 0 rows more than there are. */
static int numbers(struct srv_db *db, enum srv_statement which, int64_t *out, int n, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, which, err);
    int rc = SQLITE_ROW;

    if (!s)
        return ELS_EIO;
    for (int i = 0; i < n && rc == SQLITE_ROW; i++)
        if ((rc = sqlite3_step(s)) == SQLITE_ROW)
            out[i] = sqlite3_column_int64(s, 0);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        srv_db_fail(db, rc, err);
    srv_db_done(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : ELS_EIO;
}

int srv_db_count_totals(struct srv_store *store, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *stray = srv_db_statement(db, SQL_STRAY, err);
    int64_t totals[3] = {0};
    int status = ELS_EIO;

    if (stray) {
        sqlite3_bind_int64(stray, 1, 1 + (int64_t)time(NULL) * 1000);
        status = srv_db_run(db, stray, err);
    }
    if (status == 0)
        status = numbers(db, SQL_TOTALS, totals, 3, err);
    atomic_store(&store->results, totals[0]);
    atomic_store(&store->inputs, totals[1]);
    store->gone = totals[2];
    return status;
}

void srv_store_limit(struct srv_store *store, const struct srv_store_limits *limits)
{
    atomic_store(&store->most_results, limits->results);
    atomic_store(&store->most_inputs, limits->inputs);
}

struct srv_store_usage srv_store_usage(const struct srv_store *store)
{
    return (struct srv_store_usage){atomic_load(&store->results), atomic_load(&store->inputs),
                                    atomic_load(&store->expired)};
}

static bool is_above(const atomic_llong *limit, int64_t bytes)
{
    int64_t most = atomic_load(limit);

    return most > 0 && bytes > most;
}

int64_t srv_store_input_cost(size_t bytes)
{
    return bytes < (size_t)1 << 40 ? srv_cost_of_job(bytes) : INT64_MAX / 2;
}

int srv_store_has_room(struct srv_store *store, size_t bytes, struct els_error *err)
{
    int64_t cost = srv_store_input_cost(bytes);

    if (is_above(&store->most_inputs, cost))
        return els_fail(err, ELS_ELIMIT, "inputs",
                        "The parameters and tensors of the job take %lld bytes; queue_bytes is %lld for all that wait.",
                        (long long)cost, (long long)atomic_load(&store->most_inputs));
    if (is_above(&store->most_inputs, atomic_load(&store->inputs) + cost))
        return els_fail(err, ELS_ELIMIT, "queue_bytes",
                        "The parameters and tensors of unfinished jobs take %lld bytes; with the %lld of this one they "
                        "would be more than the %lld of queue_bytes.",
                        (long long)atomic_load(&store->inputs), (long long)cost,
                        (long long)atomic_load(&store->most_inputs));
    return 0;
}

/* ---- removing ---- */

static int bury(struct srv_db *db, const char *id, const char *owner, int64_t now, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_BURY, err);

    if (!s)
        return ELS_EIO;
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, now);
    sqlite3_bind_text(s, 3, owner, -1, SQLITE_STATIC);
    return srv_db_run(db, s, err);
}

/* A job that goes. */
struct going {
    int64_t sequence, finished, bytes, inputs;
    char id[SRV_ID_SIZE], owner[SRV_OWNER_SIZE];
};

/* Inside a transaction. */
static int remove_row(struct srv_db *db, const struct going *job, int64_t now, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_REMOVE, err);
    int status = ELS_EIO;

    if (s) {
        sqlite3_bind_int64(s, 1, job->sequence);
        status = srv_db_run(db, s, err);
    }
    return status == 0 ? bury(db, job->id, job->owner, now, err) : status;
}

static void copy_text(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);

    snprintf(out, size, "%s", text ? (const char *)text : "");
}

/* The oldest ended jobs, at most GO_TOGETHER. Returns how many, or a negative status. */
static int oldest(struct srv_db *db, struct going out[GO_TOGETHER], struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_OLDEST_ENDED, err);
    int n = 0, rc = SQLITE_ROW, status;

    if (!s)
        return ELS_EIO;
    sqlite3_bind_int(s, 1, GO_TOGETHER);
    while (n < GO_TOGETHER && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        out[n] = (struct going){.sequence = sqlite3_column_int64(s, 0), .finished = sqlite3_column_int64(s, 1),
                                .bytes = srv_cost_column(s, 2)};
        copy_text(s, 3, out[n].id, sizeof(out[n].id));
        copy_text(s, 4, out[n].owner, sizeof(out[n].owner));
        n++;
    }
    status = rc == SQLITE_ROW || rc == SQLITE_DONE ? n : srv_db_fail(db, rc, err);
    srv_db_done(s);
    return status;
}

/* Bytes that have to go before so many more fit. */
static int64_t lacking(const struct srv_store *store, int64_t bytes)
{
    int64_t most = atomic_load(&store->most_results), all = atomic_load(&store->results) + bytes;

    return most > 0 && all > most ? all - most : 0;
}

/*
 * Removes some of the oldest ended jobs in one transaction: those that finished before `before`, and others until
 * `bytes` are free. Returns how many went, or a negative status. With the writer's lock.
 */
static int remove_some(struct srv_store *store, int64_t before, int64_t bytes, int64_t now, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    struct going jobs[GO_TOGETHER];
    int64_t freed = 0;
    int n = oldest(db, jobs, err), went = 0, status;

    if (n <= 0)
        return n;
    if (jobs[0].finished >= before && bytes <= 0)
        return 0;
    status = srv_db_execute(db, SQL_BEGIN, err);
    while (status == 0 && went < n && freed < GO_BYTES && (jobs[went].finished < before || freed < bytes)) {
        status = remove_row(db, &jobs[went], now, err);
        freed += jobs[went].bytes;
        went++;
    }
    status = srv_db_end(db, status, err);
    if (status != 0)
        return status < 0 ? status : ELS_EIO;
    for (int i = 0; i < went; i++)
        srv_db_charge_owner(store, jobs[i].owner, -jobs[i].bytes, false, NULL);
    atomic_fetch_sub(&store->results, freed);
    atomic_fetch_add(&store->expired, went);
    store->gone += went;
    return went;
}

int srv_db_remove_oldest(struct srv_store *store, int64_t bytes, int64_t now, struct els_error *err)
{
    return remove_some(store, INT64_MIN, bytes, now, err);
}

int srv_db_make_room(struct srv_store *store, int64_t bytes, int64_t now, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int went = 1;

    if (is_above(&store->most_results, bytes))
        return els_fail(err, ELS_ELIMIT, "retention_bytes",
                        "The result takes %lld bytes in the store; retention_bytes is %lld for all results.",
                        (long long)bytes, (long long)atomic_load(&store->most_results));
    srv_db_lock(db);
    while (lacking(store, bytes) > 0) {
        went = srv_db_remove_oldest(store, lacking(store, bytes), now, err);
        if (went == 0) /* nothing has ended: what is left of the total is that of damaged rows */
            break;
        srv_db_unlock(db);
        if (went < 0)
            return went;
        srv_db_give_way(db);
        srv_db_lock(db);
    }
    return 0;
}

/* The job of that id, if `asker` may know of it: 0, SRV_STORE_GONE, or ELS_ENOENT. */
static int find_going(struct srv_db *db, const char *id, const char *asker, struct going *out, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_COSTS, err);
    int rc;

    if (!s)
        return ELS_EIO;
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    if (asker && *asker)
        sqlite3_bind_text(s, 2, asker, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        *out = (struct going){sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 3), srv_cost_column(s, 1),
                              srv_cost_column(s, 2), "", ""};
        snprintf(out->id, sizeof(out->id), "%s", id);
        copy_text(s, 4, out->owner, sizeof(out->owner));
    }
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return 0;
    return rc == SQLITE_DONE ? srv_db_is_gone(db, id, asker, err) : srv_db_fail(db, rc, err);
}

int srv_store_remove(struct srv_store *store, const char *id, const char *asker, int64_t now, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    struct going job;
    int status;

    srv_db_lock(db);
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = find_going(db, id, asker, &job, err);
    if (status == 0)
        status = remove_row(db, &job, now, err);
    status = srv_db_end(db, status, err);
    if (status == 0) {
        atomic_fetch_sub(job.finished > 0 ? &store->results : &store->inputs,
                         job.finished > 0 ? job.bytes : job.inputs);
        if (job.finished > 0)
            srv_db_charge_owner(store, job.owner, -job.bytes, false, NULL);
        store->gone++;
    }
    srv_db_unlock(db);
    return status;
}

/* ---- tidying ---- */

/* The oldest tombstones: 1 when there may be more to forget. */
static int forget_tombstones(struct srv_store *store, int64_t now, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *old = srv_db_statement(db, SQL_FORGET_OLD, err), *many;
    int64_t surplus;
    int status, went;

    if (!old)
        return ELS_EIO;
    sqlite3_bind_int64(old, 1, now - KEEP_TOMBSTONES_MS);
    sqlite3_bind_int(old, 2, FORGET_TOGETHER);
    status = srv_db_run(db, old, err);
    if (status != 0)
        return status;
    went = sqlite3_changes(db->handle);
    store->gone -= went;
    surplus = store->gone - KEEP_TOMBSTONES;
    if (surplus <= 0)
        return went == FORGET_TOGETHER;
    many = srv_db_statement(db, SQL_FORGET_MANY, err);
    if (!many)
        return ELS_EIO;
    sqlite3_bind_int64(many, 1, surplus < FORGET_TOGETHER ? surplus : FORGET_TOGETHER);
    status = srv_db_run(db, many, err);
    if (status == 0)
        store->gone -= sqlite3_changes(db->handle);
    return status == 0 ? store->gone > KEEP_TOMBSTONES : status;
}

/* Some of the free pages: 1 when there are more. */
static int give_pages_back(struct srv_db *db, struct els_error *err)
{
    int64_t before = 0, after = 0;
    int status = numbers(db, SQL_FREE_PAGES, &before, 1, err);

    if (status < 0 || before <= SLACK_PAGES)
        return status;
    status = srv_db_execute(db, SQL_VACUUM, err);
    if (status == 0)
        status = numbers(db, SQL_FREE_PAGES, &after, 1, err);
    /* A file without auto_vacuum keeps its pages, and uses them again. */
    return status == 0 ? after > SLACK_PAGES && after < before : status;
}

/* A large transaction leaves a large log; it is cut back when nobody is reading from it. */
static int cut_log(struct srv_store *store, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    struct stat st;

    if (!*store->wal || stat(store->wal, &st) < 0 || st.st_size <= MOST_WAL)
        return 0;
    sqlite3_busy_timeout(db->handle, 0);
    srv_db_execute(db, SQL_CHECKPOINT, NULL);
    sqlite3_busy_timeout(db->handle, SRV_DB_BUSY_MS);
    return 0;
}

int srv_store_tidy(struct srv_store *store, int64_t now, int64_t seconds, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int more[3] = {0};

    srv_db_lock(db);
    more[0] = remove_some(store, now - seconds * 1000, lacking(store, 0), now, err);
    if (more[0] >= 0)
        more[1] = forget_tombstones(store, now, err);
    srv_db_unlock(db);
    if (more[0] < 0 || more[1] < 0)
        return more[0] < 0 ? more[0] : more[1];
    srv_db_give_way(db);
    srv_db_lock(db);
    more[2] = give_pages_back(db, err);
    if (more[2] >= 0)
        more[2] |= cut_log(store, err);
    srv_db_unlock(db);
    return more[2] < 0 ? more[2] : more[0] > 0 || more[1] > 0 || more[2] > 0;
}

int srv_store_probe(struct srv_store *store, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int status;

    srv_db_lock(db);
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = bury(db, "probe", "", 0, err);
    if (status == 0)
        status = srv_db_execute(db, SQL_FORGET_PROBE, err);
    status = srv_db_end(db, status, err);
    srv_db_unlock(db);
    return status;
}
