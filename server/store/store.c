/*
 * The store's file: opening, locking, schema, statements, transactions. store_jobs.c, store_results.c,
 * store_room.c and store_scales.c hold what is done with it, store_check.c what a row must be. The store is called by the
 * handlers' threads and by the scheduler, never by an HTTP thread.
 *
 * Two connections: one writes, one reads, each behind its own mutex, so that reading a large result does not
 * hold up the acceptance of a job (WAL lets them work side by side). No call holds both mutexes, and
 * nothing is called out to while one is held.
 *
 * Durability: synchronous=FULL, so a transaction that was committed is on the disk. The file belongs to one daemon,
 * which an flock on a file beside it ensures; the kernel drops the lock when the process dies.
 *
 * Free pages are given back by incremental_vacuum (store_room.c), which needs a file that was made with auto_vacuum, as
 * ours are since version 1. One that lost it (somebody has rebuilt it by hand) would have to be written anew: not at a
 * start, for it may be large. It is served as it is, and uses its free pages again.
 *
 * Version: PRAGMA user_version. A newer one than ours is refused, an older one is brought forward here. The schema of
 * a new file is that of version 1, brought forward in the same way, so that there is one path.
 */
#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/store/store_db.h"

enum { SCHEMA_VERSION = 3, APPLICATION_ID = 0x656c7364 /* "elsd" */ };

static const char schema[] = /* version 1 */
    "CREATE TABLE jobs("
    " sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL,"
    " status INTEGER NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL,"
    " created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0, finished INTEGER NOT NULL DEFAULT 0,"
    " channels INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,"
    " num_images INTEGER NOT NULL, num_steps INTEGER NOT NULL, outputs INTEGER NOT NULL, seed INTEGER NOT NULL,"
    " last_event INTEGER NOT NULL DEFAULT 0, steps_done INTEGER NOT NULL DEFAULT 0, bank_sha256 TEXT NOT NULL,"
    " idempotency_key TEXT, body_sha256 TEXT,"
    " params TEXT NOT NULL, result TEXT, error TEXT, engine TEXT);"
    "CREATE INDEX jobs_by_status ON jobs(status, sequence);"
    "CREATE INDEX jobs_by_end ON jobs(finished, sequence) WHERE finished > 0;"
    "CREATE UNIQUE INDEX jobs_by_key ON jobs(owner, idempotency_key) WHERE idempotency_key IS NOT NULL;"
    "CREATE TABLE tensors("
    " job INTEGER NOT NULL REFERENCES jobs(sequence) ON DELETE CASCADE, name TEXT NOT NULL,"
    " image INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(job, name, image));"
    "CREATE TABLE pictures("
    " job INTEGER NOT NULL REFERENCES jobs(sequence) ON DELETE CASCADE, image INTEGER NOT NULL,"
    " sha256 TEXT NOT NULL, png BLOB NOT NULL, UNIQUE(job, image));"
    "CREATE TABLE gone(id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX gone_by_time ON gone(at);";

/* From version i + 1 to the next. */
static const char *const upgrades[SCHEMA_VERSION - 1] = {
    "ALTER TABLE jobs ADD COLUMN depth INTEGER NOT NULL DEFAULT 1;"
    "CREATE TABLE scales(owner TEXT NOT NULL, name TEXT NOT NULL, scales TEXT NOT NULL, saved INTEGER NOT NULL,"
    " PRIMARY KEY(owner, name)) WITHOUT ROWID;",

    /* Inputs are counted apart, and go with the end: what ended jobs still have goes with them, without a long stall now.
     * Rows without a digest are served unchecked. */
    "ALTER TABLE tensors ADD COLUMN digest BLOB;"
    "ALTER TABLE gone ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE jobs ADD COLUMN inputs INTEGER NOT NULL DEFAULT 0;"
    "UPDATE jobs SET inputs=bytes, bytes=length(CAST(params AS BLOB)) WHERE status IN (0,1);"
    "DROP INDEX jobs_by_end;"
    "CREATE INDEX jobs_by_end ON jobs(finished, sequence, bytes) WHERE finished > 0;"
    "CREATE INDEX jobs_by_owner ON jobs(owner, sequence);"
    "CREATE INDEX jobs_by_owner_status ON jobs(owner, status, sequence);",
};

#define A_JOB_ROW " FROM jobs WHERE sequence<?1"
#define A_PAGE " ORDER BY sequence DESC LIMIT ?2"

static const char *const statement_text[SQL_COUNT] = {
    [SQL_ACCEPT] = "INSERT INTO jobs(id, bytes, status, kind, owner, created, channels, height, width, num_images,"
                   " num_steps, outputs, seed, bank_sha256, idempotency_key, body_sha256, params, depth, inputs)"
                   " VALUES(?1,?2,0,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18)",
    [SQL_FIND_KEY] = "SELECT id, body_sha256, sequence FROM jobs WHERE owner=?1 AND idempotency_key=?2",
    [SQL_START] = "UPDATE jobs SET status=1, started=?2 WHERE id=?1 AND status<=1",
    [SQL_FINISH] = "UPDATE jobs SET status=?2, finished=?3, last_event=?4, result=?5, error=?6, engine=?7,"
                   " steps_done=?8, bytes=?9, inputs=0 WHERE id=?1 AND status<=1",
    [SQL_ADD_TENSOR] = "INSERT INTO tensors(job, name, image, data, digest) VALUES(?1,?2,?3,?4,?5)",
    [SQL_ADD_PICTURE] = "INSERT INTO pictures(job, image, sha256, png) VALUES(?1,?2,?3,?4)",
    [SQL_DROP_INPUTS] = "DELETE FROM tensors WHERE job=?1 AND name='" SRV_DB_INPUTS "'",
    [SQL_GET] = "SELECT " SRV_RECORD_COLUMNS " FROM jobs WHERE id=?1 AND (?2 IS NULL OR owner=?2)",
    [SQL_COSTS] = "SELECT sequence, bytes, inputs, finished, owner FROM jobs WHERE id=?1 AND (?2 IS NULL OR owner=?2)",
    [SQL_IS_GONE] = "SELECT 1 FROM gone WHERE id=?1 AND (?2 IS NULL OR owner=?2)",
    /* Without `result`, which can be large and which no list shows. */
    [SQL_LIST] = "SELECT " SRV_LIST_COLUMNS A_JOB_ROW A_PAGE,
    [SQL_LIST_STATUS] = "SELECT " SRV_LIST_COLUMNS A_JOB_ROW " AND status=?3" A_PAGE,
    [SQL_LIST_OWNER] = "SELECT " SRV_LIST_COLUMNS A_JOB_ROW " AND owner=?4" A_PAGE,
    [SQL_LIST_OWNER_STATUS] = "SELECT " SRV_LIST_COLUMNS A_JOB_ROW " AND owner=?4 AND status=?3" A_PAGE,
    [SQL_UNFINISHED] = "SELECT " SRV_RECORD_COLUMNS
                       " FROM jobs WHERE sequence>?1 AND status IN (0,1) ORDER BY sequence LIMIT 1",
    [SQL_IDENTITY] = "SELECT id, owner, kind, inputs FROM jobs WHERE sequence=?1",
    [SQL_CONDEMN] = "UPDATE jobs SET owner=?2, kind=?3, finished=?4, error=?5, bytes=?6, inputs=0, status=3, created=?4,"
                    " started=0, channels=1, height=1, width=1, num_images=1, num_steps=1, outputs=0, seed=0,"
                    " last_event=1, steps_done=0, depth=1, bank_sha256='', params='{}', result=NULL, engine=NULL"
                    " WHERE sequence=?1",
    [SQL_REMOVE] = "DELETE FROM jobs WHERE sequence=?1",
    [SQL_BURY] = "INSERT OR REPLACE INTO gone(id, at, owner) VALUES(?1,?2,?3)",
    [SQL_OLDEST_ENDED] = "SELECT sequence, finished, bytes, id, owner FROM jobs WHERE finished>0"
                         " ORDER BY finished, sequence LIMIT ?1",
    /* A damaged row costs nothing, here and when it goes: srv_cost_column. */
    [SQL_TOTALS] = "SELECT coalesce(sum(iif(typeof(bytes)='integer' AND bytes BETWEEN 0 AND " SRV_DB_MOST_COST
                   ", bytes, 0)), 0) FROM jobs WHERE finished>0"
                   " UNION ALL SELECT coalesce(sum(iif(typeof(inputs)='integer' AND inputs BETWEEN 0 AND "
                   SRV_DB_MOST_COST ", inputs, 0)), 0) FROM jobs WHERE status IN (0,1)"
                   " UNION ALL SELECT count(*) FROM gone",
    [SQL_OWNER_TOTALS] = "SELECT owner, coalesce(sum(iif(typeof(bytes)='integer' AND bytes BETWEEN 0 AND " SRV_DB_MOST_COST
                         ", bytes, 0)), 0) FROM jobs WHERE finished>0 GROUP BY owner",
    /* Neither unfinished nor ended: such a row is damaged, and would stay for ever. */
    [SQL_STRAY] = "UPDATE jobs SET finished=?1 WHERE status NOT IN (0,1) AND"
                  " NOT (typeof(finished)='integer' AND finished>0)",
    [SQL_FORGET_OLD] = "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE at<?1 ORDER BY at LIMIT ?2)",
    [SQL_FORGET_MANY] = "DELETE FROM gone WHERE id IN (SELECT id FROM gone ORDER BY at LIMIT ?1)",
    [SQL_FORGET_PROBE] = "DELETE FROM gone WHERE id='probe'",
    [SQL_TENSOR_ROW] = "SELECT t.rowid, t.digest, " SRV_EXTENT_COLUMNS
                       " FROM jobs j JOIN tensors t ON t.job=j.sequence"
                       " WHERE j.id=?1 AND t.name=?2 AND t.image=?3",
    [SQL_PICTURE] = "SELECT p.png, p.sha256, j.sequence FROM pictures p JOIN jobs j ON p.job=j.sequence"
                    " WHERE j.id=?1 AND p.image=?2",
    [SQL_INPUTS] = "SELECT t.data, t.digest, j.sequence FROM tensors t JOIN jobs j ON t.job=j.sequence"
                   " WHERE j.id=?1 AND t.name='" SRV_DB_INPUTS "' AND t.image=0",
    [SQL_SAVE_SCALES] = "INSERT OR REPLACE INTO scales(owner, name, scales, saved) VALUES(?1,?2,?3,?4)",
    [SQL_GET_SCALES] = "SELECT name, scales, saved FROM scales WHERE owner=?1 AND name=?2",
    [SQL_COUNT_OTHER_SCALES] = "SELECT count(*) FROM scales WHERE owner=?1 AND name<>?2",
    [SQL_REMOVE_SCALES] = "DELETE FROM scales WHERE owner=?1 AND name=?2",
    [SQL_LIST_SCALES] = "SELECT name, scales, saved FROM scales WHERE owner=?1 AND name>?2 ORDER BY name",
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_FREE_PAGES] = "PRAGMA freelist_count",
    [SQL_VACUUM] = "PRAGMA incremental_vacuum(256)",
    [SQL_CHECKPOINT] = "PRAGMA wal_checkpoint(TRUNCATE)",
};

/* ---- statements and transactions ---- */

void srv_db_lock(struct srv_db *db)
{
    /* relaxed: a hint for srv_db_give_way, nothing hangs on it */
    atomic_fetch_add_explicit(&db->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&db->lock);
    atomic_fetch_sub_explicit(&db->waiting, 1, memory_order_relaxed);
}

void srv_db_unlock(struct srv_db *db)
{
    pthread_mutex_unlock(&db->lock);
}

void srv_db_give_way(struct srv_db *db)
{
    const struct timespec moment = {.tv_nsec = 100000};

    /* A mutex goes to whoever asks first, and that would be its last holder. */
    if (atomic_load_explicit(&db->waiting, memory_order_relaxed) > 0)
        nanosleep(&moment, NULL);
}

int srv_db_fail(struct srv_db *db, int rc, struct els_error *err)
{
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);

    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return els_fail(err, ELS_EFORMAT, NULL, "The job store is damaged: %s.", text);
    case SQLITE_FULL:
        return els_fail(err, ELS_EIO, NULL, "The job store cannot grow: %s.", text);
    case SQLITE_TOOBIG:
        return els_fail(err, ELS_ELIMIT, NULL, "A result is too large for the job store: %s.", text);
    default:
        return els_fail(err, ELS_EIO, NULL, "The job store failed: %s.", text);
    }
}

sqlite3_stmt *srv_db_statement(struct srv_db *db, enum srv_statement which, struct els_error *err)
{
    if (!db->statements[which]) {
        int rc = sqlite3_prepare_v3(db->handle, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT,
                                    &db->statements[which], NULL);
        if (rc != SQLITE_OK) {
            srv_db_fail(db, rc, err);
            return NULL;
        }
    }
    return db->statements[which];
}

sqlite3_stmt *srv_db_done(sqlite3_stmt *s)
{
    if (s) {
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
    }
    return NULL;
}

int srv_db_run(struct srv_db *db, sqlite3_stmt *s, struct els_error *err)
{
    int rc;

    do
        rc = sqlite3_step(s);
    while (rc == SQLITE_ROW); /* a pragma may return rows */
    if (rc != SQLITE_DONE)
        srv_db_fail(db, rc, err);
    srv_db_done(s);
    if (rc == SQLITE_DONE)
        return 0;
    return (rc & 0xff) == SQLITE_CONSTRAINT ? SRV_STORE_TAKEN : srv_db_fail(db, rc, NULL);
}

int srv_db_execute(struct srv_db *db, enum srv_statement which, struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, which, err);

    return s ? srv_db_run(db, s, err) : ELS_EIO;
}

int srv_db_end(struct srv_db *db, int status, struct els_error *err)
{
    if (status == 0)
        status = srv_db_execute(db, SQL_COMMIT, err);
    /* A failed COMMIT can leave the transaction open (a full disk does). */
    if (status != 0 && !sqlite3_get_autocommit(db->handle))
        srv_db_execute(db, SQL_ROLLBACK, NULL);
    return status;
}

/* ---- opening ---- */

static int simple(struct srv_db *db, const char *sql, struct els_error *err)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : srv_db_fail(db, rc, err);
}

/* A pragma's integer. */
static int ask(struct srv_db *db, const char *sql, int *out, struct els_error *err)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(s, 0);
    rc = rc == SQLITE_ROW ? 0 : srv_db_fail(db, rc, err);
    sqlite3_finalize(s);
    return rc;
}

static int connect_db(struct srv_db *db, const char *path, struct els_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int rc = sqlite3_open_v2(path, &db->handle, flags | (*path == ':' ? SQLITE_OPEN_CREATE : 0), NULL);

    if (rc != SQLITE_OK)
        return srv_db_fail(db, rc, err);
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, SRV_DB_BUSY_MS);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return simple(db, "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON; PRAGMA cell_size_check=ON;", err);
}

/* From `version` (0: an empty file) to ours, in one transaction. */
static int bring_forward(struct srv_db *db, int version, struct els_error *err)
{
    char mark[96];
    int status = simple(db, "BEGIN IMMEDIATE", err);

    snprintf(mark, sizeof(mark), "PRAGMA application_id=%d; PRAGMA user_version=%d;", APPLICATION_ID,
             SCHEMA_VERSION);
    if (status == 0 && version == 0) {
        status = simple(db, schema, err);
        version = 1;
    }
    for (; status == 0 && version < SCHEMA_VERSION; version++)
        status = simple(db, upgrades[version - 1], err);
    if (status == 0)
        status = simple(db, mark, err);
    return srv_db_end(db, status, err);
}

/* Makes the schema in an empty database; refuses one that is not ours, newer, or damaged. */
static int check_schema(struct srv_db *db, const char *path, struct els_error *err)
{
    int tables = 0, version = 0, application = 0, sound = 0;
    int status = ask(db, "SELECT count(*) FROM sqlite_schema", &tables, err);

    if (status < 0)
        return status;
    if (tables == 0)
        return bring_forward(db, 0, err);
    status = ask(db, "PRAGMA application_id", &application, err);
    if (status == 0)
        status = ask(db, "PRAGMA user_version", &version, err);
    if (status == 0 && application != APPLICATION_ID)
        return els_fail(err, ELS_EFORMAT, "state_dir", "%s is a database, but not one of elsd.", path);
    if (status == 0 && (version < 1 || version > SCHEMA_VERSION))
        return els_fail(err, ELS_EFORMAT, "state_dir", "%s has version %d of the job store; this elsd knows %d.",
                        path, version, SCHEMA_VERSION);
    /* The tables of results can be large; their damage shows when they are read. */
    if (status == 0)
        status = ask(db, "SELECT quick_check='ok' FROM pragma_quick_check('jobs') LIMIT 1", &sound, err);
    if (status == 0 && !sound)
        return els_fail(err, ELS_EFORMAT, "state_dir", "The table of jobs in %s is damaged.", path);
    if (status == 0 && version < SCHEMA_VERSION)
        status = bring_forward(db, version, err);
    return status;
}



/* The directory, the lock, and an empty file with the right mode for SQLite to fill. */
static int prepare_directory(struct srv_store *store, const char *dir, const char *path, struct els_error *err)
{
    char lock[4096];
    int fd;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return els_fail(err, ELS_EIO, "state_dir", "state_dir %s cannot be made: %s.", dir, strerror(errno));
    if (snprintf(lock, sizeof(lock), "%s/elsd.lock", dir) >= (int)sizeof(lock))
        return els_fail(err, ELS_EINVAL, "state_dir", "state_dir is too long.");
    store->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return els_fail(err, ELS_EIO, "state_dir", "%s cannot be opened: %s.", lock, strerror(errno));
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return els_fail(err, ELS_EIO, "state_dir", "Another elsd is using the state_dir %s.", dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return els_fail(err, ELS_EIO, "state_dir", "%s cannot be opened: %s.", path, strerror(errno));
    close(fd);
    return 0;
}

static int open_file(struct srv_store *store, const char *dir, struct els_error *err)
{
    char path[4096];
    int status;

    if (snprintf(path, sizeof(path), "%s/jobs.sqlite3", dir) >= (int)sizeof(path) ||
        snprintf(store->wal, sizeof(store->wal), "%s/jobs.sqlite3-wal", dir) >= (int)sizeof(store->wal))
        return els_fail(err, ELS_EINVAL, "state_dir", "state_dir is too long.");
    status = prepare_directory(store, dir, path, err);
    if (status == 0)
        status = connect_db(&store->writer, path, err);
    /* auto_vacuum counts only before the first table is made. */
    if (status == 0)
        status = simple(&store->writer,
                        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                        "PRAGMA journal_size_limit=67108864;",
                        err);
    if (status == 0)
        status = check_schema(&store->writer, path, err);
    if (status == 0)
        status = connect_db(&store->own_reader, path, err);
    if (status == 0)
        status = simple(&store->own_reader, "PRAGMA query_only=ON;", err);
    store->reader = &store->own_reader;
    if (status < 0 && err && !strstr(err->message, dir)) {
        struct els_error cause = *err;

        els_fail(err, status, "state_dir", "%.160s: %.280s", path, cause.message);
    }
    return status;
}

static int open_memory(struct srv_store *store, struct els_error *err)
{
    int status = connect_db(&store->writer, ":memory:", err);

    /* Here pages that are given back are memory. */
    if (status == 0)
        status = simple(&store->writer, "PRAGMA auto_vacuum=INCREMENTAL;", err);
    if (status == 0)
        status = bring_forward(&store->writer, 0, err);
    store->reader = &store->writer;
    return status;
}

int srv_store_open(struct srv_store **out, const char *state_dir, struct els_error *err)
{
    struct srv_store *store = els_alloc_array(1, sizeof(*store));
    int status;

    if (!store)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    store->lock_fd = -1;
    pthread_mutex_init(&store->writer.lock, NULL);
    pthread_mutex_init(&store->own_reader.lock, NULL);
    pthread_mutex_init(&store->damage_lock, NULL);
    status = state_dir && *state_dir ? open_file(store, state_dir, err) : open_memory(store, err);
    if (status == 0)
        status = srv_db_count_totals(store, err);
    if (status < 0) {
        srv_store_close(store);
        return status;
    }
    *out = store;
    return 0;
}

static void disconnect(struct srv_db *db)
{
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    pthread_mutex_destroy(&db->lock);
}

struct srv_store *srv_store_close(struct srv_store *store)
{
    if (!store)
        return NULL;
    srv_db_free_owners(store);
    disconnect(&store->own_reader);
    disconnect(&store->writer); /* the last connection folds the WAL into the database */
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->damage_lock);
    free(store);
    return NULL;
}
