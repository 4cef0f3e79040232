/*
 * Locality scales in the store, by the names that people gave them; each owner (API key) has names of its own. What
 * they say is checked by whoever saves it; here they are JSON of a bounded size. See store.c for threads and locks.
 */
#include <stdlib.h>
#include <string.h>

#include "server/store/store_db.h"

void srv_saved_scales_deinit(struct srv_saved_scales *s)
{
    free(s->scales);
    *s = (struct srv_saved_scales){0};
}

/* The statement about `name` of `owner`; NULL and *err. */
static sqlite3_stmt *about(struct srv_db *db, enum srv_statement which, const char *owner, const char *name,
                           struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, which, err);

    if (s)
        sqlite3_bind_text(s, 1, owner, -1, SQLITE_STATIC);
    if (s && name)
        sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    return s;
}

/* The current row: name, scales, saved. */
static int row(sqlite3_stmt *s, struct srv_saved_scales *out, struct els_error *err)
{
    const char *name = (const char *)sqlite3_column_text(s, 0), *scales = (const char *)sqlite3_column_text(s, 1);
    size_t size = (size_t)sqlite3_column_bytes(s, 1);
    bool sound = sqlite3_column_type(s, 0) == SQLITE_TEXT && sqlite3_column_type(s, 1) == SQLITE_TEXT &&
                 sqlite3_column_type(s, 2) == SQLITE_INTEGER;

    out->saved = sqlite3_column_int64(s, 2);
    snprintf(out->name, sizeof(out->name), "%s", name ? name : "");
    if (sound && (!name || !scales))
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    /* Of older versions there may be some that are larger than what is saved now. */
    if (!sound || strlen(name) != strlen(out->name) || strlen(scales) != size || !srv_db_is_json(scales, size) ||
        out->saved < 0 || out->saved > SRV_DB_LAST_MS)
        return els_fail(err, ELS_EFORMAT, "damaged", "The scales \"%s\" are damaged in the store.", out->name);
    out->scales = strdup(scales);
    return out->scales ? 0 : els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
}

static int count_others(struct srv_db *db, const char *owner, const char *name, int64_t *out, struct els_error *err)
{
    sqlite3_stmt *s = about(db, SQL_COUNT_OTHER_SCALES, owner, name, err);
    int rc;

    if (!s)
        return ELS_EIO;
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    srv_db_done(s);
    return rc == SQLITE_ROW ? 0 : srv_db_fail(db, rc, err);
}

int srv_db_save_scales(struct srv_db *db, const char *owner, const char *name, const char *scales, int64_t now,
                       struct els_error *err)
{
    int64_t others = 0;
    sqlite3_stmt *s;
    int status;

    if (strlen(scales) > SRV_SCALES_MOST_BYTES)
        return els_fail(err, ELS_ELIMIT, "scales", "The scales have %zu bytes as JSON; at most %d can be saved.",
                        strlen(scales), SRV_SCALES_MOST_BYTES);
    status = count_others(db, owner, name, &others, err);
    if (status < 0)
        return status;
    if (others >= SRV_SCALES_MOST)
        return els_fail(err, ELS_ELIMIT, "save_as", "%d scales are saved, which is all that may; delete some first.",
                        SRV_SCALES_MOST);
    s = about(db, SQL_SAVE_SCALES, owner, name, err);
    if (!s)
        return ELS_EIO;
    sqlite3_bind_text(s, 3, scales, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 4, now);
    return srv_db_run(db, s, err);
}

int srv_store_save_scales(struct srv_store *store, const char *owner, const char *name, const char *scales,
                          int64_t now, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    int status;

    srv_db_lock(db);
    status = srv_db_execute(db, SQL_BEGIN, err);
    if (status == 0)
        status = srv_db_save_scales(db, owner, name, scales, now, err);
    status = srv_db_end(db, status, err);
    srv_db_unlock(db);
    return status;
}

int srv_store_get_scales(struct srv_store *store, const char *owner, const char *name,
                         struct srv_saved_scales *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    srv_db_lock(db);
    s = about(db, SQL_GET_SCALES, owner, name, err);
    if (s) {
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW)
            status = row(s, out, err);
        else
            status = rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
        srv_db_note_damage(store, 0, name, status, err);
        srv_db_done(s);
    }
    srv_db_unlock(db);
    return status;
}

int srv_store_remove_scales(struct srv_store *store, const char *owner, const char *name, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *s;
    int status = ELS_EIO;

    srv_db_lock(db);
    s = about(db, SQL_REMOVE_SCALES, owner, name, err);
    if (s) {
        status = srv_db_run(db, s, err);
        if (status == 0 && sqlite3_changes(db->handle) == 0)
            status = ELS_ENOENT;
    }
    srv_db_unlock(db);
    return status;
}

int srv_store_list_scales(struct srv_store *store, const char *owner, const char *after,
                          int (*each)(void *user, const struct srv_saved_scales *s), void *user,
                          struct els_error *err)
{
    struct srv_db *db = store->reader;
    int status = ELS_EIO, rc = SQLITE_ROW;
    struct els_error ours = {0};
    sqlite3_stmt *s;

    srv_db_lock(db);
    s = about(db, SQL_LIST_SCALES, owner, after, err);
    if (s)
        status = 0;
    while (status == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct srv_saved_scales saved = {0};

        status = row(s, &saved, &ours);
        if (srv_db_note_damage(store, 0, saved.name, status, &ours))
            status = 0;
        else if (status == 0 && each(user, &saved) != 0)
            status = ELS_ECANCELLED;
        srv_saved_scales_deinit(&saved);
    }
    if (status < 0 && err && ours.message[0])
        *err = ours;
    if (status == 0 && rc != SQLITE_DONE)
        status = srv_db_fail(db, rc, err);
    srv_db_done(s);
    srv_db_unlock(db);
    return status;
}
