/*
 * store_db: inside the store: connections, statements, transactions. See store.c.
 */
#ifndef SRV_STORE_DB_H
#define SRV_STORE_DB_H

#include <pthread.h>
#include <sqlite3.h>

#include "store.h"

enum srv_statement {
    SQL_ACCEPT,
    SQL_FIND_KEY,
    SQL_START,
    SQL_FINISH,
    SQL_ADD_TENSOR,
    SQL_ADD_PICTURE,
    SQL_GET,
    SQL_SEQUENCE,
    SQL_IS_GONE,
    SQL_LIST,
    SQL_LIST_STATUS,
    SQL_UNFINISHED,
    SQL_REMOVE,
    SQL_BURY,
    SQL_OLDEST_ENDED,
    SQL_TOTAL_BYTES,
    SQL_FORGET_OLD,
    SQL_FORGET_MANY,
    SQL_TENSOR_ROW,
    SQL_PICTURE,
    SQL_INPUTS,
    SQL_SAVE_SCALES,
    SQL_GET_SCALES,
    SQL_COUNT_OTHER_SCALES,
    SQL_REMOVE_SCALES,
    SQL_LIST_SCALES,
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_VACUUM,
    SQL_COUNT,
};

/* A connection. Its lock is held from begin to end of every call; nothing else is locked meanwhile. */
struct srv_db {
    pthread_mutex_t lock;
    sqlite3 *handle;
    sqlite3_stmt *statements[SQL_COUNT]; /* prepared when first used */
};

struct srv_store {
    struct srv_db writer;
    struct srv_db own_reader; /* unused in memory: a second connection would see another database */
    struct srv_db *reader;    /* &own_reader or &writer */
    int lock_fd;              /* flock on state_dir/elsd.lock; −1 in memory */
};

/* A statement with no bindings, or NULL and *err filled. Give it back with srv_db_done. */
sqlite3_stmt *srv_db_statement(struct srv_db *db, enum srv_statement which, struct els_error *err);
/* Resets and unbinds; NULL is fine. Returns NULL. */
sqlite3_stmt *srv_db_done(sqlite3_stmt *s);
/* Runs a statement that returns no rows, and gives it back. */
int srv_db_run(struct srv_db *db, sqlite3_stmt *s, struct els_error *err);
/* A statement without parameters or rows. */
int srv_db_execute(struct srv_db *db, enum srv_statement which, struct els_error *err);
/* Commits when `status` is 0, else rolls back. Returns the first failure. */
int srv_db_end(struct srv_db *db, int status, struct els_error *err);
/* SQLite's complaint as a status and a sentence. */
int srv_db_fail(struct srv_db *db, int rc, struct els_error *err);

/* The name among a job's tensors that its inputs have, as image 0. */
#define SRV_DB_INPUTS "inputs"

/* The columns that srv_db_record reads, in its order. */
#define SRV_RECORD_COLUMNS                                                                         \
    "sequence, id, kind, owner, status, created, started, finished, params, result, error, engine, " \
    "bank_sha256, channels, height, width, num_images, num_steps, outputs, seed, last_event, steps_done, depth"
/* The current row as a record. ELS_ENOMEM, ELS_EFORMAT (a row that we would never have written). */
int srv_db_record(sqlite3_stmt *s, struct srv_record *out, struct els_error *err);
/* Inside a transaction: see srv_store_save_scales. */
int srv_db_save_scales(struct srv_db *db, const char *owner, const char *name, const char *scales, int64_t now,
                       struct els_error *err);

#endif
