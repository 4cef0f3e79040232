/*
 * Results in the store, read back: a part of a tensor through incremental blob I/O, a picture whole. See store.c for
 * threads and locks. Blobs are float32 as this machine has them, which is little-endian
 * (the library's file formats say the same).
 */
#include <string.h>

#include "store_db.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blobs are little-endian");

static int tensor_row(struct srv_db *db, const char *id, const char *name, int64_t image, int64_t *row,
                      struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_TENSOR_ROW, err);
    int rc;

    if (!s)
        return ELS_EIO;
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, image);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *row = sqlite3_column_int64(s, 0);
    srv_db_done(s);
    if (rc == SQLITE_ROW)
        return 0;
    if (rc != SQLITE_DONE)
        return srv_db_fail(db, rc, err);
    return els_fail(err, ELS_ENOENT, NULL, "There is no tensor \"%s\" of image %lld.", name, (long long)image);
}

static int read_blob(struct srv_db *db, int64_t row, size_t offset, size_t size, void *out, struct els_error *err)
{
    sqlite3_blob *blob = NULL;
    int rc = sqlite3_blob_open(db->handle, "main", "tensors", "data", row, 0, &blob);
    int status = 0;

    if (rc != SQLITE_OK) {
        status = srv_db_fail(db, rc, err);
    } else if (offset + size > (size_t)sqlite3_blob_bytes(blob)) {
        status = els_fail(err, ELS_EFORMAT, NULL, "The job store is damaged: a tensor has %d bytes, %zu are needed.",
                          sqlite3_blob_bytes(blob), offset + size);
    } else {
        rc = sqlite3_blob_read(blob, out, (int)size, (int)offset);
        if (rc != SQLITE_OK)
            status = srv_db_fail(db, rc, err);
    }
    sqlite3_blob_close(blob);
    return status;
}

int srv_store_read_tensor(struct srv_store *store, const char *id, const char *name, int64_t image,
                          size_t first, size_t values, void *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    int64_t row = 0;
    int status;

    pthread_mutex_lock(&db->lock);
    status = tensor_row(db, id, name, image, &row, err);
    if (status == 0)
        status = read_blob(db, row, first * sizeof(float), values * sizeof(float), out, err);
    pthread_mutex_unlock(&db->lock);
    return status;
}

int srv_store_read_inputs(struct srv_store *store, const char *id, struct els_buffer *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_INPUTS, err);
    if (s) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW)
            status = els_buffer_append(out, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
        else
            status = rc == SQLITE_DONE ? ELS_ENOENT : srv_db_fail(db, rc, err);
        if (rc == SQLITE_ROW && status < 0)
            els_fail(err, status, NULL, "Memory is out.");
        srv_db_done(s);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}

int srv_store_read_picture(struct srv_store *store, const char *id, int64_t image, struct els_buffer *out,
                           char sha256[65], struct els_error *err)
{
    struct srv_db *db = store->reader;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    pthread_mutex_lock(&db->lock);
    s = srv_db_statement(db, SQL_PICTURE, err);
    if (s) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, image);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW) {
            status = els_buffer_append(out, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
            snprintf(sha256, 65, "%s", (const char *)sqlite3_column_text(s, 1));
            if (status < 0)
                els_fail(err, status, NULL, "Memory is out.");
        } else if (rc == SQLITE_DONE) {
            status = els_fail(err, ELS_ENOENT, NULL, "There is no picture of image %lld.", (long long)image);
        } else {
            status = srv_db_fail(db, rc, err);
        }
        srv_db_done(s);
    }
    pthread_mutex_unlock(&db->lock);
    return status;
}
