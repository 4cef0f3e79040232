/*
 * Results in the store, read back: a part of a tensor through incremental blob I/O, a picture whole. See store.c for
 * threads and locks. Blobs are float32 as this machine has them, which is little-endian
 * (the library's file formats say the same).
 *
 * Nothing is handed out that is not what was stored: sizes are compared with what the job's row implies, and the bytes
 * with their digest. Of a tensor only the pieces are read that the part touches, so a part costs no more than itself and
 * two pieces.
 *
 * The row of a tensor and its bytes are read in one snapshot: the statement that found the row is open until the bytes
 * have been read. Otherwise a job that goes in between would look damaged.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/sha256.h"
#include "server/store/store_db.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blobs are little-endian");

/* A page of the file that makes no sense is damage of the job whose bytes it should hold. */
static int fail_reading(struct srv_db *db, int rc, struct els_error *err)
{
    if ((rc & 0xff) == SQLITE_CORRUPT)
        return srv_db_damage(err, "%s", sqlite3_errmsg(db->handle));
    return srv_db_fail(db, rc, err);
}

/* ---- tensors ---- */

struct found {
    sqlite3_stmt *row_of; /* open, and with it the snapshot; srv_db_done it */
    int64_t row, job;
    size_t values;         /* of each image, by the job's row */
    unsigned char *digest; /* owned; NULL: the row is older than digests */
    size_t digest_size;
};

static int copy_digest(sqlite3_stmt *s, int i, struct found *out, struct els_error *err)
{
    const void *blob = sqlite3_column_blob(s, i);

    out->digest_size = (size_t)sqlite3_column_bytes(s, i);
    if (sqlite3_column_type(s, i) == SQLITE_NULL)
        return 0;
    out->digest = els_alloc_array(out->digest_size + 1, 1);
    if (!out->digest || (!blob && out->digest_size > 0))
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    if (out->digest_size > 0)
        memcpy(out->digest, blob, out->digest_size);
    return 0;
}

static int find_tensor(struct srv_db *db, const char *id, const char *name, int64_t image, struct found *out,
                       struct els_error *err)
{
    sqlite3_stmt *s = srv_db_statement(db, SQL_TENSOR_ROW, err);
    int rc, status;

    if (!s)
        return ELS_EIO;
    out->row_of = s;
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, image);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        out->row = sqlite3_column_int64(s, 0);
        out->job = sqlite3_column_int64(s, 2);
        status = srv_db_extent(s, 2, name, &out->values, err);
        if (status == 0)
            status = copy_digest(s, 1, out, err);
    } else if (rc == SQLITE_DONE) {
        status = els_fail(err, ELS_ENOENT, NULL, "There is no tensor \"%s\" of image %lld.", name, (long long)image);
    } else {
        status = fail_reading(db, rc, err);
    }
    return status;
}

static int check_tensor(const struct found *t, const char *name, size_t bytes, struct els_error *err)
{
    if (bytes != t->values * sizeof(float))
        return srv_db_damage(err, "its tensor %s has %zu bytes of an image; it must have %zu", name, bytes,
                             t->values * sizeof(float));
    if (t->digest && t->digest_size != srv_digest_bytes(bytes))
        return srv_db_damage(err, "the digest of its tensor %s has %zu bytes; it must have %zu", name, t->digest_size,
                             srv_digest_bytes(bytes));
    return 0;
}

/* The bytes from `offset` on, out of whole pieces that are compared with their digests. */
static int read_pieces(struct srv_db *db, sqlite3_blob *blob, const struct found *t, const char *name, size_t offset,
                       size_t size, char *out, struct els_error *err)
{
    _cleanup_(els_freep) char *piece = els_alloc_array(SRV_DIGEST_PIECE, 1);
    size_t bytes = (size_t)sqlite3_blob_bytes(blob);

    if (!piece)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    for (size_t i = offset / SRV_DIGEST_PIECE; size > 0; i++) {
        size_t at = i * SRV_DIGEST_PIECE, skip = offset - at;
        size_t length = bytes - at < SRV_DIGEST_PIECE ? bytes - at : SRV_DIGEST_PIECE;
        size_t n = length - skip < size ? length - skip : size;
        int rc = sqlite3_blob_read(blob, piece, (int)length, (int)at);

        if (rc != SQLITE_OK)
            return fail_reading(db, rc, err);
        if (t->digest && !srv_digest_matches(t->digest, i, piece, length))
            return srv_db_damage(err, "bytes %zu to %zu of its tensor %s are not those that were stored", at,
                                 at + length - 1, name);
        memcpy(out, piece + skip, n);
        out += n;
        offset += n;
        size -= n;
    }
    return 0;
}

static int read_blob(struct srv_db *db, const struct found *t, const char *name, size_t first, size_t values, void *out,
                     struct els_error *err)
{
    sqlite3_blob *blob = NULL;
    int rc = sqlite3_blob_open(db->handle, "main", "tensors", "data", t->row, 0, &blob);
    int status;

    if (rc == SQLITE_ERROR) /* the value is neither a blob nor text */
        status = srv_db_damage(err, "its tensor %s is not a blob", name);
    else if (rc != SQLITE_OK)
        status = fail_reading(db, rc, err);
    else
        status = check_tensor(t, name, (size_t)sqlite3_blob_bytes(blob), err);
    if (status == 0 && (first > t->values || values > t->values - first))
        status = els_fail(err, ELS_EINVAL, NULL, "Values %zu to %zu of %zu were asked for.", first, first + values,
                          t->values);
    if (status == 0)
        status = read_pieces(db, blob, t, name, first * sizeof(float), values * sizeof(float), out, err);
    sqlite3_blob_close(blob);
    return status;
}

int srv_store_read_tensor(struct srv_store *store, const char *id, const char *name, int64_t image,
                          size_t first, size_t values, void *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    struct found t = {0};
    int status;

    srv_db_lock(db);
    status = find_tensor(db, id, name, image, &t, err);
    if (status == 0)
        status = read_blob(db, &t, name, first, values, out, err);
    srv_db_done(t.row_of);
    srv_db_unlock(db);
    srv_db_note_damage(store, t.job, id, status, err);
    free(t.digest);
    return status;
}

/* ---- inputs and pictures ---- */

/* The current row's blob. */
static int append_blob(sqlite3_stmt *s, int i, const char *name, struct els_buffer *out, struct els_error *err)
{
    const void *blob = sqlite3_column_blob(s, i);
    size_t size = (size_t)sqlite3_column_bytes(s, i);

    if (sqlite3_column_type(s, i) != SQLITE_BLOB)
        return srv_db_damage(err, "%s is not a blob", name);
    if ((!blob && size > 0) || els_buffer_append(out, blob, size) < 0)
        return els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the %zu bytes of %s.", size, name);
    return 0;
}

static int check_inputs(sqlite3_stmt *s, struct els_error *err)
{
    const char *blob = sqlite3_column_blob(s, 0);
    size_t size = (size_t)sqlite3_column_bytes(s, 0);
    const unsigned char *digest = sqlite3_column_blob(s, 1);

    if (sqlite3_column_type(s, 1) == SQLITE_NULL)
        return 0;
    if (sqlite3_column_type(s, 1) != SQLITE_BLOB || (size_t)sqlite3_column_bytes(s, 1) != srv_digest_bytes(size))
        return srv_db_damage(err, "the digest of its inputs has %d bytes; it must have %zu",
                             sqlite3_column_bytes(s, 1), srv_digest_bytes(size));
    for (size_t i = 0, at = 0; at < size; i++, at += SRV_DIGEST_PIECE) {
        size_t length = size - at < SRV_DIGEST_PIECE ? size - at : SRV_DIGEST_PIECE;

        if (!srv_digest_matches(digest, i, blob + at, length))
            return srv_db_damage(err, "bytes %zu to %zu of its inputs are not those that were stored", at,
                                 at + length - 1);
    }
    return 0;
}

int srv_store_read_inputs(struct srv_store *store, const char *id, struct els_buffer *out, struct els_error *err)
{
    struct srv_db *db = store->reader;
    int64_t job = 0;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    srv_db_lock(db);
    s = srv_db_statement(db, SQL_INPUTS, err);
    if (s) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW) {
            job = sqlite3_column_int64(s, 2);
            status = append_blob(s, 0, "its inputs", out, err);
            if (status == 0)
                status = check_inputs(s, err);
        } else {
            status = rc == SQLITE_DONE ? ELS_ENOENT : fail_reading(db, rc, err);
        }
        srv_db_done(s);
    }
    srv_db_unlock(db);
    srv_db_note_damage(store, job, id, status, err);
    return status;
}

/* The PNG that was appended from `began` on, against its row's digest. */
static int check_picture(sqlite3_stmt *s, const struct els_buffer *png, size_t began, char sha256[65],
                         struct els_error *err)
{
    const unsigned char *stored = sqlite3_column_text(s, 1);
    struct els_sha256 hash;

    els_sha256_init(&hash);
    els_sha256_update(&hash, (const char *)png->data + began, png->size - began);
    els_sha256_hex(&hash, sha256);
    if (!stored || strcmp((const char *)stored, sha256) != 0)
        return srv_db_damage(err, "its picture is not the one that was stored");
    return 0;
}

int srv_store_read_picture(struct srv_store *store, const char *id, int64_t image, struct els_buffer *out,
                           char sha256[65], struct els_error *err)
{
    struct srv_db *db = store->reader;
    size_t began = out->size;
    int64_t job = 0;
    sqlite3_stmt *s;
    int status = ELS_EIO, rc;

    srv_db_lock(db);
    s = srv_db_statement(db, SQL_PICTURE, err);
    if (s) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, image);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW) {
            job = sqlite3_column_int64(s, 2);
            status = append_blob(s, 0, "its picture", out, err);
            if (status == 0)
                status = check_picture(s, out, began, sha256, err);
        } else if (rc == SQLITE_DONE) {
            status = els_fail(err, ELS_ENOENT, NULL, "There is no picture of image %lld.", (long long)image);
        } else {
            status = fail_reading(db, rc, err);
        }
        srv_db_done(s);
    }
    srv_db_unlock(db);
    srv_db_note_damage(store, job, id, status, err);
    return status;
}
