/*
 * store_db: inside the store: connections, statements, transactions. See store.c.
 */
#ifndef SRV_STORE_DB_H
#define SRV_STORE_DB_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "server/store/store.h"

enum srv_statement {
    SQL_ACCEPT,
    SQL_FIND_KEY,
    SQL_START,
    SQL_FINISH,
    SQL_ADD_TENSOR,
    SQL_ADD_PICTURE,
    SQL_DROP_INPUTS,
    SQL_GET,
    SQL_COSTS,
    SQL_IS_GONE,
    SQL_LIST,
    SQL_LIST_STATUS,
    SQL_LIST_OWNER,
    SQL_LIST_OWNER_STATUS,
    SQL_UNFINISHED,
    SQL_IDENTITY,
    SQL_CONDEMN,
    SQL_REMOVE,
    SQL_BURY,
    SQL_OLDEST_ENDED,
    SQL_TOTALS,
    SQL_OWNER_TOTALS,
    SQL_STRAY,
    SQL_FORGET_OLD,
    SQL_FORGET_MANY,
    SQL_FORGET_PROBE,
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
    SQL_FREE_PAGES,
    SQL_VACUUM,
    SQL_CHECKPOINT,
    SQL_COUNT,
};

/* A connection. Its lock is held from begin to end of every call; nothing else is locked meanwhile, but for the list of
 * known damage. */
struct srv_db {
    pthread_mutex_t lock;
    atomic_int waiting; /* for the lock */
    sqlite3 *handle;
    sqlite3_stmt *statements[SQL_COUNT]; /* prepared when first used */
};

enum { SRV_DB_KNOWN_DAMAGE = 256, SRV_DB_BUSY_MS = 10000 };

struct srv_store {
    struct srv_db writer;
    struct srv_db own_reader; /* unused in memory: a second connection would see another database */
    struct srv_db *reader;    /* &own_reader or &writer */
    int lock_fd;              /* flock on state_dir/elsd.lock; −1 in memory */
    char wal[4096];           /* the write-ahead log's path; "" in memory */
    /* Written under the writer's lock, once a transaction has been committed; read by anyone. */
    atomic_llong results, inputs, expired;
    atomic_llong most_results, most_inputs; /* the limits */
    int64_t gone; /* tombstones; under the writer's lock */
    /* Who is charged for results (store_owners.c); under the writer's lock. */
    struct srv_accounts *accounts; /* or NULL: nobody */
    struct srv_store_owner *owners;

    pthread_mutex_t damage_lock; /* guards what follows */
    void (*damaged)(void *user, const char *id, const char *why);
    void *damaged_user;
    int64_t known_damage[SRV_DB_KNOWN_DAMAGE]; /* sequences of jobs, the latest; 0: none */
    size_t num_known_damage;
};

/* The connection's lock, for one call. */
void srv_db_lock(struct srv_db *db);
void srv_db_unlock(struct srv_db *db);
/* Between two holds of the lock in a row: lets those who wait for it have it. Not while holding it. */
void srv_db_give_way(struct srv_db *db);

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

/* More than this no row costs: 2^50. */
#define SRV_DB_MOST_COST "1125899906842624"
/* The end of the year 9999, in ms since 1970. */
#define SRV_DB_LAST_MS INT64_C(253402300799999)

/* The name among a job's tensors that its inputs have, as image 0. */
#define SRV_DB_INPUTS "inputs"

/* The columns that srv_db_record reads, in its order. */
#define SRV_RECORD_COLUMNS                                                                         \
    "sequence, id, kind, owner, status, created, started, finished, params, result, error, engine, " \
    "bank_sha256, channels, height, width, num_images, num_steps, depth, outputs, seed, last_event, steps_done"
/* The same for lists, with NULL for `result`. */
#define SRV_LIST_COLUMNS                                                                         \
    "sequence, id, kind, owner, status, created, started, finished, params, NULL, error, engine, " \
    "bank_sha256, channels, height, width, num_images, num_steps, depth, outputs, seed, last_event, steps_done"
/* The current row as a record, every column checked (store_check.c). ELS_ENOMEM; ELS_EFORMAT: damage, of which only
 * out->sequence and, where they are whole, id and owner are filled. */
int srv_db_record(sqlite3_stmt *s, struct srv_job_record *out, struct els_error *err);
/* The columns that srv_db_extent reads, in its order, of the job `j`. */
#define SRV_EXTENT_COLUMNS "j.sequence, j.kind, j.channels, j.height, j.width, j.num_images, j.num_steps, j.depth, j.outputs"
/* How many values of each image the job's tensor `name` has, from these columns, which begin with column `first`.
 * ELS_ENOENT: its kind has none of that name; ELS_EFORMAT: damage. */
int srv_db_extent(sqlite3_stmt *s, int first, const char *name, size_t *values, struct els_error *err);
/* A row that is not what we would have written: fills *err so that srv_store_is_damage knows it. Returns ELS_EFORMAT. */
int srv_db_damage(struct els_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Is `status` with *err such damage? Then it is told, once for each job. */
bool srv_db_note_damage(struct srv_store *store, int64_t sequence, const char *id, int status,
                        const struct els_error *err);
/* Is it one well-formed JSON value (RFC 8259) in UTF-8? Allocates nothing. */
bool srv_db_is_json(const char *text, size_t size);

/* ---- digests (store_digest.c) ---- */

/* A blob's digest is that of its pieces of 64 KiB, one after the other, so that a part of it can be checked alone. */
enum { SRV_DIGEST_PIECE = 64 << 10, SRV_DIGEST_SIZE = 16 /* of a piece: the first half of its SHA-256 */ };

/* Bytes of the digest of `size` bytes. */
size_t srv_digest_bytes(size_t size);
/* Appends the digest of `data`. */
int srv_digest_append(struct els_buffer *out, const void *data, size_t size);
/* Is the piece, number `i` of its blob, what `digest` says? */
bool srv_digest_matches(const unsigned char *digest, size_t i, const void *piece, size_t size);

/* ---- what rows cost (store_room.c) ---- */

/* The bytes that a row of such a payload takes in the file, with its share of pages and indexes. */
int64_t srv_cost_of_row(size_t payload);
/* A job's own row with so many bytes of text. */
int64_t srv_cost_of_job(size_t texts);
/* What a row says that it costs, within reason: a damaged one costs nothing. */
int64_t srv_cost_column(sqlite3_stmt *s, int i);
/* Establishes the totals. At open. */
int srv_db_count_totals(struct srv_store *store, struct els_error *err);
/* Charges so much more (or less) to an owner of results. `forced`: without a limit. 0, or ELS_ELIMIT. */
int srv_db_charge_owner(struct srv_store *store, const char *owner, int64_t bytes, bool forced, struct els_error *err);
void srv_db_free_owners(struct srv_store *store);
/* Removes the oldest ended jobs, about `bytes` of them, in one bounded transaction. Returns how many went, or a negative
 * status. With the writer's lock. */
int srv_db_remove_oldest(struct srv_store *store, int64_t bytes, int64_t now, struct els_error *err);
/*
 * Takes the writer's lock when `bytes` more of results fit; for that removes the oldest ended jobs, in bounded
 * transactions, between which others have their turn. On failure the lock is not held.
 */
int srv_db_make_room(struct srv_store *store, int64_t bytes, int64_t now, struct els_error *err);

/* SRV_STORE_GONE, ELS_ENOENT, or another negative status. */
int srv_db_is_gone(struct srv_db *db, const char *id, const char *asker, struct els_error *err);
/* Inside a transaction: see srv_store_save_scales. */
int srv_db_save_scales(struct srv_db *db, const char *owner, const char *name, const char *scales, int64_t now,
                       struct els_error *err);

#endif
