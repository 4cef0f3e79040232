/*
 * A store that somebody has edited: every column of every table takes every hostile value, one at a time, in every row.
 * Whatever it says then, reading everything through the interface stays inside memory (the sanitizer looks), what is handed
 * out is what had been stored, the other jobs are served as before, and no unfinished job is in the way of a start.
 *
 * The columns are those that the file itself names, so that a new one is tested without a word here.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/job_type.h"
#include "stored.h"
#include "unit.h"

/* ---- a store with something of everything ---- */

enum { SIDE = 96, VALUES = SIDE * SIDE, IMAGES = 2, STEPS = 2 /* x0 is more than one piece of a digest */ };

static float values[IMAGES][STEPS * VALUES];
static char png[IMAGES][300], inputs[70000];

static struct srv_job_record job(char digit)
{
    struct srv_job_record r = record_of(digit);

    r.shape = (struct els_shape){1, SIDE, SIDE};
    r.num_images = IMAGES;
    r.num_steps = STEPS;
    r.outputs = 3;
    snprintf(r.owner, sizeof(r.owner), "ann");
    return r;
}

static void accept(struct srv_store *store, char digit, bool with_inputs)
{
    struct srv_job_record r = job(digit);
    struct srv_acceptance a = {.record = &r};
    char key[2] = {digit, '\0'};

    a.idempotency_key = key;
    a.body_sha256 = "hash";
    if (with_inputs) {
        a.inputs = inputs;
        a.inputs_size = sizeof(inputs);
    }
    ck_assert_int_eq(srv_store_accept(store, &a, NULL), 0);
}

static void end(struct srv_store *store, char digit, enum srv_status status)
{
    static float first[IMAGES * VALUES];
    struct srv_job_record r = job(digit);
    struct srv_kept_tensor tensors[] = {{"images", VALUES, first}, {"x0", STEPS * VALUES, values[0]}};
    struct srv_kept_picture pictures[] = {{0, png[0], sizeof(png[0]), ""}, {1, png[1], sizeof(png[1]), ""}};
    struct srv_outcome o = {.status = status, .finished = 5000, .last_event = 2, .steps_done = 1, .num_images = IMAGES};

    if (status == SRV_SUCCEEDED) {
        for (int i = 0; i < IMAGES; i++) {
            memcpy(first + i * VALUES, values[i], VALUES * sizeof(float));
            sha256_of(pictures[i].png, pictures[i].size, pictures[i].sha256);
        }
        o.result = o.engine = "{\"r\":[1,2.5,\"\\u00e9\"]}";
        o.tensors = tensors;
        o.num_tensors = 2;
        o.pictures = pictures;
        o.num_pictures = IMAGES;
    } else {
        o.error = "{\"code\":\"x\"}";
    }
    ck_assert_int_eq(srv_store_finish(store, r.id, &o, NULL), 0);
}

/* a succeeded, b waits with tensors, c failed, d was removed, e succeeded: the bystander. */
static void make(void)
{
    struct srv_store *store;
    struct srv_job_record d = job('d');

    for (int i = 0; i < IMAGES; i++) {
        for (int k = 0; k < STEPS * VALUES; k++)
            values[i][k] = (float)(i * 1000 + k);
        memset(png[i], 'p' + i, sizeof(png[i]));
    }
    store = open_store(folder);
    accept(store, 'a', false);
    accept(store, 'b', true);
    accept(store, 'c', false);
    accept(store, 'd', false);
    accept(store, 'e', false);
    end(store, 'a', SRV_SUCCEEDED);
    end(store, 'c', SRV_FAILED);
    end(store, 'd', SRV_FAILED);
    end(store, 'e', SRV_SUCCEEDED);
    ck_assert_int_eq(srv_store_remove(store, d.id, NULL, 6000, NULL), 0);
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "mine", "{\"t\":[1],\"p\":[3]}", 5, NULL), 0);
    srv_store_close(store);
}

/* ---- reading everything ---- */

/* Is damage told in a sentence? */
static void check_error(int status, const struct els_error *err)
{
    if (status < 0 && status != ELS_ENOENT)
        ck_assert_msg(err->message[0], "no sentence for %d", status);
}

static bool read_job(struct srv_store *store, char digit)
{
    struct srv_job_record r = job(digit), got = {0};
    struct els_error err = {0};
    int status = srv_store_get(store, r.id, NULL, &got, &err);
    json_t *json;

    check_error(status, &err);
    if (status == 0) {
        ck_assert_str_eq(got.id, r.id);
        ck_assert_ptr_nonnull(srv_job_type_find(got.kind));
        json = srv_job_record_json(&got, SRV_RECORD_WHOLE);
        ck_assert_msg(json != NULL, "job %c cannot be told", digit);
        json_decref(json);
    }
    srv_job_record_deinit(&got);
    return status == 0;
}

/* Whole, and a part across two pieces: if anything comes, it is what was stored. */
static bool read_tensor(struct srv_store *store, char digit, const char *name, int64_t image, size_t size)
{
    static float got[STEPS * VALUES];
    struct srv_job_record r = job(digit);
    size_t inside = size - 3000;
    struct els_error err = {0};
    int whole = srv_store_read_tensor(store, r.id, name, image, 0, size, got, &err), part;

    check_error(whole, &err);
    if (whole == 0 && image >= 0 && image < IMAGES)
        ck_assert_mem_eq(got, values[image], size * sizeof(float));
    part = srv_store_read_tensor(store, r.id, name, image, inside, 1000, got, &err);
    check_error(part, &err);
    if (part == 0 && image >= 0 && image < IMAGES)
        ck_assert_mem_eq(got, &values[image][inside], 1000 * sizeof(float));
    return whole == 0 && part == 0;
}

static bool read_results(struct srv_store *store, char digit)
{
    struct srv_job_record r = job(digit);
    bool all = true;

    for (int64_t i = 0; i < IMAGES; i++) {
        struct els_buffer got = ELS_BUFFER_INIT(1 << 20);
        struct els_error err = {0};
        char sha256[65];
        int status = srv_store_read_picture(store, r.id, i, &got, sha256, &err);

        check_error(status, &err);
        if (status == 0) {
            ck_assert_uint_eq(got.size, sizeof(png[i]));
            ck_assert_mem_eq(got.data, png[i], sizeof(png[i]));
        }
        els_buffer_deinit(&got);
        all = read_tensor(store, digit, "images", i, VALUES) && all;
        all = read_tensor(store, digit, "x0", i, STEPS * VALUES) && all;
        all = all && status == 0;
    }
    return all;
}

static int note(void *user, const struct srv_job_record *record)
{
    char *seen = user;
    json_t *json = srv_job_record_json(record, SRV_RECORD_BRIEF);

    ck_assert_ptr_nonnull(json);
    json_decref(json);
    seen[strlen(seen)] = record->id[0];
    return 0;
}

/* The lists leave out what is damaged, and nothing else. */
static void read_lists(struct srv_store *store)
{
    for (int status = -1; status < SRV_STATUS_COUNT; status++) {
        for (int owned = 0; owned < 2; owned++) {
            struct srv_store_query query = {status, owned ? "ann" : "", INT64_MAX, 100};
            struct els_error err = {0};
            char seen[16] = "";

            ck_assert_msg(srv_store_list(store, &query, note, seen, &err) == 0, "%s", err.message);
            if (status < 0 || status == SRV_SUCCEEDED)
                ck_assert_msg(strchr(seen, 'e'), "the list is \"%s\"", seen);
        }
    }
}

static int note_scales(void *user, const struct srv_saved_scales *s)
{
    ck_assert_ptr_nonnull(s->scales);
    return 0;
}

static void read_scales(struct srv_store *store)
{
    struct srv_saved_scales got = {0};
    struct els_error err = {0};

    check_error(srv_store_get_scales(store, "ann", "mine", &got, &err), &err);
    srv_saved_scales_deinit(&got);
    ck_assert_int_eq(srv_store_list_scales(store, "ann", "", note_scales, NULL, &err), 0);
}

static void read_rest(struct srv_store *store)
{
    struct els_buffer got = ELS_BUFFER_INIT(1 << 20);
    struct srv_job_record b = job('b');
    struct els_error err = {0};
    char id[SRV_ID_SIZE], sha256[65];
    int status = srv_store_read_inputs(store, b.id, &got, &err);

    check_error(status, &err);
    if (status == 0) {
        ck_assert_uint_eq(got.size, sizeof(inputs));
        ck_assert_mem_eq(got.data, inputs, sizeof(inputs));
    }
    els_buffer_deinit(&got);
    srv_store_find_key(store, "ann", "b", id, sha256, NULL);
}

/* What a start does: every unfinished job is one that can be told, or ends. */
static void restart(struct srv_store *store)
{
    struct srv_job_record record = {0};
    int64_t after = 0;
    int status;

    for (int i = 0; i < 10; i++) {
        struct els_error err = {0};

        status = srv_store_next_unfinished(store, after, &record, &err);
        if (status == ELS_ENOENT)
            return;
        ck_assert_msg(status == 0 || srv_store_is_damage(&err), "%d: %s", status, err.message);
        ck_assert_int_gt(record.sequence, after);
        after = record.sequence;
        if (status < 0) {
            ck_assert_msg(srv_store_condemn(store, after, 7000, "{\"code\":\"damaged\"}", &err) == 0, "%s", err.message);
        }
        srv_job_record_deinit(&record);
    }
    ck_abort_msg("the unfinished jobs do not end");
}

static void change_everything(struct srv_store *store)
{
    struct srv_outcome cancelled = {.status = SRV_CANCELLED, .finished = 8000};
    struct els_error err = {0};

    for (const char *digit = "abc"; *digit; digit++) {
        struct srv_job_record r = job(*digit);

        check_error(srv_store_finish(store, r.id, &cancelled, &err), &err);
        check_error(srv_store_remove(store, r.id, NULL, 9000, &err), &err);
    }
    for (int i = 0; i < 10 && srv_store_tidy(store, 9000, 1000000, &err) == 1; i++)
        ;
    ck_assert_int_eq(srv_store_probe(store, &err), 0);
}

static int damages; /* that were told */

static void count_damage(void *user, const char *id, const char *why)
{
    ck_assert_ptr_nonnull(strstr(why, "damaged"));
    damages++;
}

static void read_everything(bool twice)
{
    struct srv_store *store = open_store(folder);

    damages = 0;
    srv_store_on_damage(store, count_damage, NULL);
    for (int round = 0; round <= twice; round++) {
        int before = damages;

        for (const char *digit = "abcd"; *digit; digit++)
            read_job(store, *digit);
        read_results(store, 'a');
        read_lists(store);
        read_scales(store);
        read_rest(store);
        ck_assert_int_eq(round ? before : damages, damages); /* each is told once */
    }
    restart(store);
    restart(store);
    change_everything(store);
    srv_store_close(store);
}

/* ---- the mutations ---- */

static char *whole;
static size_t whole_size;

static void keep_file(void)
{
    struct stat st;
    int fd = open(at("jobs.sqlite3"), O_RDONLY);

    ck_assert_int_eq(fstat(fd, &st), 0);
    whole_size = (size_t)st.st_size;
    whole = malloc(whole_size);
    ck_assert_int_eq(read(fd, whole, whole_size), (ssize_t)whole_size);
    close(fd);
}

static void restore_file(void)
{
    int fd = open(at("jobs.sqlite3"), O_WRONLY | O_TRUNC);

    ck_assert_int_eq(write(fd, whole, whole_size), (ssize_t)whole_size);
    close(fd);
    unlink(at("jobs.sqlite3-wal"));
    unlink(at("jobs.sqlite3-shm"));
}

static const char *const hostile[] = {
    "NULL", "0", "1", "-1", "3", "65", "2147483647", "2147483648", "4294967297", "4611686018427387904",
    "9223372036854775807", "-9223372036854775808", "1.5", "1e308", "''", "'x'", "'{'", "'{\"a\":[1,]}'",
    "'{\"a\":1e999}'", "'\"\\ud800\"'", "CAST(x'22ff22' AS TEXT)", "CAST(x'610062' AS TEXT)",
    "replace(hex(zeroblob(3000)),'0','[')", "x''", "x'00ff'", "zeroblob(102400)", "zeroblob(300)",
    /* Of what is there: cut by one, and with one more. */
    "substr(%s, 1, length(%s) - 1)", "CAST(%s || 'x' AS BLOB)",
};
enum { HOSTILE = sizeof(hostile) / sizeof(*hostile), FLIPS = 3 };

/* One bit of a blob or text, at its beginning, middle or end. False: there is nothing to flip. */
static bool flip(sqlite3 *db, const char *table, const char *column, int64_t row, int where)
{
    sqlite3_blob *blob = NULL;
    unsigned char byte;
    bool done = false;
    int size;

    if (sqlite3_blob_open(db, "main", table, column, row, 1, &blob) == SQLITE_OK) {
        size = sqlite3_blob_bytes(blob);
        where = where == 0 ? 0 : where == 1 ? size / 2 : size - 1;
        if (size > 0 && sqlite3_blob_read(blob, &byte, 1, where) == SQLITE_OK) {
            byte ^= 1;
            done = sqlite3_blob_write(blob, &byte, 1, where) == SQLITE_OK;
        }
    }
    sqlite3_blob_close(blob);
    return done;
}

static bool set(sqlite3 *db, const char *table, const char *column, const char *where, const char *value)
{
    char expression[200], sql[400];

    snprintf(expression, sizeof(expression), "%s", value);
    if (strstr(value, "%s") == value + strlen("substr("))
        snprintf(expression, sizeof(expression), "substr(%s, 1, length(%s) - 1)", column, column);
    else if (strstr(value, "%s"))
        snprintf(expression, sizeof(expression), "CAST(%s || 'x' AS BLOB)", column);
    snprintf(sql, sizeof(sql), "UPDATE OR IGNORE %s SET %s=%s WHERE %s", table, column, expression, where);
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK && sqlite3_changes(db) > 0;
}

/* Applies mutation i to the row. False: this row cannot have that value. */
static bool mutate(const char *table, const char *column, int64_t row, int i)
{
    sqlite3 *db = NULL;
    char where[64] = "1";
    bool done;

    if (row > 0)
        snprintf(where, sizeof(where), "rowid=%lld", (long long)row);
    restore_file();
    ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF", NULL, NULL, NULL);
    if (i < HOSTILE)
        done = set(db, table, column, where, hostile[i]);
    else
        done = row > 0 && flip(db, table, column, row, i - HOSTILE);
    sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
    sqlite3_close(db);
    return done;
}

static int mutate_column(const char *table, const char *column, int64_t row)
{
    int done = 0;

    for (int i = 0; i < HOSTILE + FLIPS; i++) {
        if (!mutate(table, column, row, i))
            continue;
        done++;
        read_everything(i % 8 == 0);
    }
    return done;
}

/* The bystander is told, whole, whatever happened to others. */
static void check_bystander(void)
{
    struct srv_store *store = open_store(folder);

    ck_assert(read_job(store, 'e'));
    ck_assert(read_results(store, 'e'));
    srv_store_close(store);
}

struct column {
    char table[32], name[32];
    int64_t row; /* 0: all rows of a table without row numbers */
};
enum { MOST_COLUMNS = 1000 };
static struct column columns[MOST_COLUMNS];

/* Every column: of jobs a and b, and of what belongs to image 0 of theirs. */
static int list_columns(void)
{
    static const char sql[] =
        "SELECT s.name, c.name, s.sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema s, pragma_table_info(s.name) c"
        " WHERE s.type='table' AND s.name NOT LIKE 'sqlite%'";
    sqlite3_stmt *s = NULL, *rows;
    sqlite3 *db = NULL;
    char text[200];
    int n = 0;

    ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *table = (const char *)sqlite3_column_text(s, 0);
        bool numbered = !sqlite3_column_int(s, 2);

        snprintf(text, sizeof(text), numbered ? "SELECT rowid FROM %s WHERE %s" : "SELECT 0", table,
                 strcmp(table, "jobs") == 0 ? "sequence<=2" : "job<=2 AND image=0");
        ck_assert_int_eq(sqlite3_prepare_v2(db, text, -1, &rows, NULL), SQLITE_OK);
        while (sqlite3_step(rows) == SQLITE_ROW && n < MOST_COLUMNS) {
            snprintf(columns[n].table, sizeof(columns[n].table), "%s", table);
            snprintf(columns[n].name, sizeof(columns[n].name), "%s", sqlite3_column_text(s, 1));
            columns[n++].row = sqlite3_column_int64(rows, 0);
        }
        sqlite3_finalize(rows);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

START_TEST(test_every_column)
{
    int n, done = 0;

    scratch_make_in_memory();
    make();
    keep_file();
    n = list_columns();
    ck_assert_int_gt(n, 60);
    ck_assert_int_lt(n, MOST_COLUMNS);
    for (int i = 0; i < n; i++) {
        bool keyed = strcmp(columns[i].name, "job") == 0 || strcmp(columns[i].name, "sequence") == 0;

        done += mutate_column(columns[i].table, columns[i].name, columns[i].row);
        if (!keyed) /* a row that was given to the bystander is the bystander's damage */
            check_bystander();
    }
    printf("%d columns and rows, %d mutations\n", n, done);
    ck_assert_int_gt(done, 10 * n);
    free(whole);
    scratch_remove();
}
END_TEST

/* The three of the report: each is the job's own error. */
START_TEST(test_sizes_that_wrap_around)
{
    static const struct {
        const char *column, *value;
    } damage[] = {{"num_images", "4611686018427387904"}, {"num_steps", "2147483647"}, {"depth", "0"}};
    struct srv_job_record a, got = {0};
    struct srv_store *store;
    struct els_error err = {0};

    scratch_make_in_memory();
    make();
    keep_file();
    a = job('a');
    for (size_t i = 0; i < sizeof(damage) / sizeof(*damage); i++) {
        sqlite3 *db = NULL;

        restore_file();
        ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
        ck_assert(set(db, "jobs", damage[i].column, "sequence=1", damage[i].value));
        sqlite3_close(db);
        store = open_store(folder);
        ck_assert_int_eq(srv_store_get(store, a.id, NULL, &got, &err), ELS_EFORMAT);
        ck_assert(srv_store_is_damage(&err));
        ck_assert_msg(strstr(err.message, damage[i].column) && strstr(err.message, damage[i].value), "%s", err.message);
        ck_assert(read_job(store, 'e'));
        srv_store_close(store);
    }
    free(whole);
    scratch_remove();
}
END_TEST

UNIT_MAIN("store_check", test_every_column, test_sizes_that_wrap_around)
