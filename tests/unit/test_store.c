/*
 * The store: acceptance, results, listing, removal and retention; and what it finds after a crash, in a damaged file,
 * or while another process holds it.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stored.h"
#include "unit.h"

static void accept_one(struct srv_store *store, char digit, const char *key)
{
    struct srv_job_record r = record_of(digit);
    struct els_error err = {0};
    struct srv_acceptance a = {.record = &r, .idempotency_key = key, .body_sha256 = key ? "hash" : NULL};

    ck_assert_msg(srv_store_accept(store, &a, &err) == 0, "%s", err.message);
}

static const float x0[2 * 12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

static void finish_one(struct srv_store *store, char digit, int64_t finished)
{
    struct srv_job_record r = record_of(digit);
    struct srv_kept_tensor tensors[] = {{"x0", 12, x0}, {"xt", 16, NULL}};
    struct srv_kept_picture pictures[] = {{0, (void *)"png0", 4, ""}, {1, (void *)"png1", 4, ""}};
    struct srv_outcome o = {.status = SRV_SUCCEEDED, .finished = finished, .last_event = 7, .steps_done = 3,
                            .result = "{\"r\":1}", .engine = "{}", .num_images = 2, .tensors = tensors,
                            .num_tensors = 2, .pictures = pictures, .num_pictures = 2};
    struct els_error err = {0};

    for (int i = 0; i < 2; i++)
        sha256_of(pictures[i].png, pictures[i].size, pictures[i].sha256);
    ck_assert_msg(srv_store_finish(store, r.id, &o, &err) == 0, "%s", err.message);
}

static int get(struct srv_store *store, char digit, struct srv_job_record *out)
{
    struct srv_job_record r = record_of(digit);

    return srv_store_get(store, r.id, NULL, out, NULL);
}

static void check_result(struct srv_store *store, char digit)
{
    struct srv_job_record r = record_of(digit), got = {0};
    struct els_buffer png = ELS_BUFFER_INIT(64);
    char sha[65], expected[65];
    float values[4];

    ck_assert_int_eq(get(store, digit, &got), 0);
    ck_assert_int_eq(got.status, SRV_SUCCEEDED);
    ck_assert_str_eq(got.result, "{\"r\":1}");
    ck_assert_ptr_null(got.error);
    ck_assert_uint_eq(got.last_event, 7);
    ck_assert_int_eq(got.shape.w, 2);
    srv_job_record_deinit(&got);
    /* Step 1 of image 1, without the rest. */
    ck_assert_int_eq(srv_store_read_tensor(store, r.id, "x0", 1, 4, 4, values, NULL), 0);
    ck_assert_mem_eq(values, &x0[12 + 4], sizeof(values));
    ck_assert_int_eq(srv_store_read_tensor(store, r.id, "xt", 1, 0, 4, values, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_read_tensor(store, r.id, "x0", 2, 0, 4, values, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_read_tensor(store, r.id, "x0", 1, 9, 4, values, NULL), ELS_EINVAL);
    ck_assert_int_eq(srv_store_read_picture(store, r.id, 1, &png, sha, NULL), 0);
    ck_assert_mem_eq(png.data, "png1", 4);
    sha256_of("png1", 4, expected);
    ck_assert_str_eq(sha, expected);
    els_buffer_deinit(&png);
}

START_TEST(test_life_in_memory)
{
    struct srv_store *store = open_store("");
    struct srv_job_record got = {0}, r = record_of('a');

    accept_one(store, 'a', NULL);
    ck_assert_int_eq(get(store, 'a', &got), 0);
    ck_assert_int_eq(got.status, SRV_QUEUED);
    ck_assert_str_eq(got.params, "{\"seed\":1}");
    srv_job_record_deinit(&got);
    ck_assert_int_eq(srv_store_start(store, r.id, 5000, NULL), 0);
    ck_assert_int_eq(get(store, 'a', &got), 0);
    ck_assert_int_eq(got.status, SRV_RUNNING);
    ck_assert_int_eq(got.started, 5000);
    srv_job_record_deinit(&got);
    finish_one(store, 'a', 6000);
    check_result(store, 'a');
    ck_assert_int_eq(get(store, 'b', &got), ELS_ENOENT);
    srv_store_close(store);
}
END_TEST

/* An ended job does not change any more. */
START_TEST(test_only_forward)
{
    struct srv_store *store = open_store("");
    struct srv_job_record r = record_of('a');
    struct srv_outcome cancelled = {.status = SRV_CANCELLED, .finished = 9000};

    accept_one(store, 'a', NULL);
    finish_one(store, 'a', 6000);
    ck_assert_int_eq(srv_store_finish(store, r.id, &cancelled, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_start(store, r.id, 1, NULL), 0);
    check_result(store, 'a');
    srv_store_close(store);
}
END_TEST

START_TEST(test_idempotency)
{
    struct srv_store *store = open_store("");
    struct srv_job_record r = record_of('b');
    struct srv_acceptance a = {.record = &r, .idempotency_key = "k", .body_sha256 = "other"};
    char id[SRV_ID_SIZE], hash[65];

    ck_assert_int_eq(srv_store_find_key(store, "", "k", id, hash, NULL), ELS_ENOENT);
    accept_one(store, 'a', "k");
    ck_assert_int_eq(srv_store_accept(store, &a, NULL), SRV_STORE_TAKEN);
    ck_assert_int_eq(srv_store_find_key(store, "", "k", id, hash, NULL), 0);
    ck_assert_int_eq(id[0], 'a');
    ck_assert_str_eq(hash, "hash");
    ck_assert_int_eq(srv_store_find_key(store, "somebody", "k", id, hash, NULL), ELS_ENOENT);
    accept_one(store, 'b', NULL); /* the refused one left nothing behind */
    srv_store_close(store);
}
END_TEST

static int note_id(void *user, const struct srv_job_record *record)
{
    char *out = user;

    out[strlen(out)] = record->id[0];
    return 0;
}

START_TEST(test_list)
{
    struct srv_store *store = open_store("");
    struct srv_store_query query = {.status = -1, .before = INT64_MAX, .limit = 2};
    char seen[8] = "";

    for (const char *digit = "abcde"; *digit; digit++)
        accept_one(store, *digit, NULL);
    finish_one(store, 'c', 1);
    ck_assert_int_eq(srv_store_list(store, &query, note_id, seen, NULL), 0);
    ck_assert_str_eq(seen, "ed");
    query = (struct srv_store_query){.status = SRV_QUEUED, .before = 5, .limit = 9};
    memset(seen, 0, sizeof(seen));
    ck_assert_int_eq(srv_store_list(store, &query, note_id, seen, NULL), 0);
    ck_assert_str_eq(seen, "dba");
    srv_store_close(store);
}
END_TEST

START_TEST(test_remove_and_tombstone)
{
    struct srv_store *store = open_store("");
    struct srv_job_record r = record_of('a'), got = {0};
    float value;

    accept_one(store, 'a', "k");
    finish_one(store, 'a', 1);
    ck_assert_int_eq(srv_store_remove(store, r.id, NULL, 5, NULL), 0);
    ck_assert_int_eq(get(store, 'a', &got), SRV_STORE_GONE);
    ck_assert_int_eq(srv_store_remove(store, r.id, NULL, 5, NULL), SRV_STORE_GONE);
    ck_assert_int_eq(srv_store_remove(store, "nothing", NULL, 5, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_read_tensor(store, r.id, "x0", 0, 0, 1, &value, NULL), ELS_ENOENT);
    accept_one(store, 'b', "k"); /* its key is free again */
    srv_store_close(store);
}
END_TEST

/* Reads while the job comes and goes: what a reader gets is the job's, or there is no such job. */
struct reading {
    struct srv_store *store;
    atomic_bool over;
    int whole, absent, wrong;
    struct els_error err; /* of the first wrong one */
};

static void *read_on(void *arg)
{
    struct reading *r = arg;
    struct srv_job_record job = record_of('a');

    while (!atomic_load(&r->over)) {
        float values[12];
        struct els_error err = {0};
        int status = srv_store_read_tensor(r->store, job.id, "x0", 1, 0, 12, values, &err);

        if (status == 0 && memcmp(values, x0 + 12, sizeof(values)) == 0)
            r->whole++;
        else if (status == ELS_ENOENT)
            r->absent++;
        else if (r->wrong++ == 0)
            r->err = err;
    }
    return NULL;
}

START_TEST(test_a_job_that_goes_while_it_is_read)
{
    struct reading r = {0};
    struct srv_job_record job = record_of('a');
    pthread_t thread;

    scratch_make_in_memory();
    r.store = open_store(folder);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_on, &r), 0);
    for (int i = 0; i < 2000; i++) {
        accept_one(r.store, 'a', NULL);
        finish_one(r.store, 'a', 1);
        ck_assert_int_eq(srv_store_remove(r.store, job.id, NULL, 5, NULL), 0);
    }
    atomic_store(&r.over, true);
    pthread_join(thread, NULL);
    printf("read whole %d times, absent %d times\n", r.whole, r.absent);
    ck_assert_msg(r.wrong == 0, "%d times: %s", r.wrong, r.err.message);
    ck_assert_int_gt(r.whole, 0);
    ck_assert_int_gt(r.absent, 0);
    srv_store_close(r.store);
    scratch_remove();
}
END_TEST

/* By age. What goes for want of room is in test_store_room.c. */
START_TEST(test_retention)
{
    const int64_t day = 24 * 3600 * 1000;
    struct srv_store *store = open_store("");
    struct srv_job_record got = {0};

    for (const char *digit = "abcd"; *digit; digit++)
        accept_one(store, *digit, NULL);
    finish_one(store, 'b', 10 * day);
    finish_one(store, 'a', 20 * day);
    finish_one(store, 'c', 30 * day);
    ck_assert_int_eq(srv_store_tidy(store, 30 * day, 10 * 24 * 3600, NULL), 1);
    ck_assert_int_eq(srv_store_tidy(store, 30 * day, 10 * 24 * 3600, NULL), 0);
    ck_assert_int_eq(get(store, 'b', &got), SRV_STORE_GONE);
    ck_assert_int_eq(get(store, 'a', &got), 0); /* exactly as old as is allowed */
    srv_job_record_deinit(&got);
    check_result(store, 'c');
    /* Nothing that is unfinished ever goes; tombstones do. */
    while (srv_store_tidy(store, 60 * day, 1, NULL) == 1)
        ;
    ck_assert_int_eq(get(store, 'c', &got), SRV_STORE_GONE);
    ck_assert_int_eq(get(store, 'd', &got), 0);
    srv_job_record_deinit(&got);
    ck_assert_int_eq(get(store, 'b', &got), ELS_ENOENT);
    ck_assert_int_eq(srv_store_usage(store).expired, 3);
    ck_assert_int_eq(srv_store_probe(store, NULL), 0);
    srv_store_close(store);
}
END_TEST

/* Only its owner learns that a job was there. */
START_TEST(test_tombstones_have_owners)
{
    struct srv_store *store = open_store("");
    struct srv_job_record r = record_of('a'), got = {0};
    struct srv_acceptance a = {.record = &r};

    snprintf(r.owner, sizeof(r.owner), "ann");
    ck_assert_int_eq(srv_store_accept(store, &a, NULL), 0);
    finish_one(store, 'a', 1);
    ck_assert_int_eq(srv_store_get(store, r.id, "bob", &got, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_remove(store, r.id, "bob", 5, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_get(store, r.id, "ann", &got, NULL), 0);
    srv_job_record_deinit(&got);
    ck_assert_int_eq(srv_store_remove(store, r.id, "ann", 5, NULL), 0);
    ck_assert_int_eq(srv_store_get(store, r.id, "bob", &got, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_remove(store, r.id, "bob", 5, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_get(store, r.id, "ann", &got, NULL), SRV_STORE_GONE);
    ck_assert_int_eq(srv_store_get(store, r.id, "", &got, NULL), SRV_STORE_GONE);
    srv_store_close(store);
}
END_TEST

/* Killed without warning: what was accepted and finished is there, and the rest is unfinished, in order. */
START_TEST(test_reopen_after_a_kill)
{
    struct srv_job_record got = {0};
    struct srv_store *store;
    pid_t child;
    int status;

    scratch_make();
    child = fork();
    if (child == 0) {
        struct srv_job_record n = record_of('f'), b = record_of('b');
        struct srv_acceptance noisy = {.record = &n, .inputs = x0, .inputs_size = 8 * sizeof(float)};

        store = open_store(folder);
        accept_one(store, 'c', NULL);
        accept_one(store, 'b', NULL);
        accept_one(store, 'a', NULL);
        ck_assert_int_eq(srv_store_accept(store, &noisy, NULL), 0);
        srv_store_start(store, b.id, 5, NULL);
        finish_one(store, 'a', 6000);
        raise(SIGKILL);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));

    store = open_store(folder);
    check_result(store, 'a');
    ck_assert_int_eq(srv_store_next_unfinished(store, 0, &got, NULL), 0);
    ck_assert_int_eq(got.id[0], 'c');
    srv_job_record_deinit(&got);
    ck_assert_int_eq(srv_store_next_unfinished(store, 1, &got, NULL), 0);
    ck_assert_int_eq(got.id[0], 'b');
    ck_assert_int_eq(got.status, SRV_RUNNING);
    srv_job_record_deinit(&got);
    ck_assert_int_eq(srv_store_next_unfinished(store, 2, &got, NULL), 0);
    ck_assert_int_eq(got.id[0], 'f');
    {
        struct els_buffer inputs = ELS_BUFFER_INIT(1 << 10);

        ck_assert_int_eq(srv_store_read_inputs(store, got.id, &inputs, NULL), 0);
        ck_assert_uint_eq(inputs.size, 8 * sizeof(float));
        ck_assert_mem_eq(inputs.data, x0, inputs.size);
        els_buffer_deinit(&inputs);
    }
    srv_job_record_deinit(&got);
    ck_assert_int_eq(srv_store_next_unfinished(store, 4, &got, NULL), ELS_ENOENT);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

static int add_name(void *user, const struct srv_saved_scales *s)
{
    char *all = user;
    size_t used = strlen(all);

    snprintf(all + used, 64 - used, "%s=%s;", s->name, s->scales);
    return 0;
}

START_TEST(test_saved_scales)
{
    struct srv_store *store = open_store("");
    struct srv_job_record r = record_of('a');
    struct srv_outcome o = {.status = SRV_SUCCEEDED, .finished = 7000, .owner = "ann", .save_as = "job's",
                            .scales = "[9]"};
    struct srv_saved_scales got = {0};
    struct els_error err = {0};
    char all[64] = "";

    ck_assert_int_eq(srv_store_get_scales(store, "ann", "mine", &got, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "mine", "[3]", 5000, NULL), 0);
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "mine", "[5]", 6000, NULL), 0);
    ck_assert_int_eq(srv_store_get_scales(store, "ann", "mine", &got, NULL), 0);
    ck_assert_str_eq(got.scales, "[5]");
    ck_assert_int_eq(got.saved, 6000);
    srv_saved_scales_deinit(&got);

    /* With a job's end, or not at all. */
    ck_assert_int_eq(srv_store_finish(store, r.id, &o, &err), ELS_ENOENT);
    accept_one(store, 'a', NULL);
    ck_assert_int_eq(srv_store_finish(store, r.id, &o, &err), 0);
    ck_assert_int_eq(srv_store_list_scales(store, "ann", "", add_name, all, NULL), 0);
    ck_assert_str_eq(all, "job's=[9];mine=[5];");

    /* Names are their owner's alone. */
    ck_assert_int_eq(srv_store_get_scales(store, "bob", "mine", &got, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_remove_scales(store, "bob", "mine", NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_save_scales(store, "bob", "mine", "[7]", 1, NULL), 0);
    ck_assert_int_eq(srv_store_remove_scales(store, "ann", "mine", NULL), 0);
    ck_assert_int_eq(srv_store_remove_scales(store, "ann", "mine", NULL), ELS_ENOENT);
    srv_store_close(store);
}
END_TEST

START_TEST(test_saved_scales_are_bounded)
{
    struct srv_store *store = open_store("");
    struct els_error err = {0};
    char name[16];

    for (int i = 0; i < SRV_SCALES_MOST; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        ck_assert_int_eq(srv_store_save_scales(store, "ann", name, "[3]", 1, NULL), 0);
    }
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "s5", "[5]", 1, NULL), 0);
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "more", "[3]", 1, &err), ELS_ELIMIT);
    ck_assert_str_eq(err.field, "save_as");
    ck_assert_int_eq(srv_store_save_scales(store, "bob", "more", "[3]", 1, &err), 0);
    srv_store_close(store);
}
END_TEST

static void write_file(const char *name, const char *bytes, size_t size, int64_t offset)
{
    int fd = open(at(name), O_WRONLY | O_CREAT, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

static void expect_refusal(int code, const char *words)
{
    struct srv_store *store = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(srv_store_open(&store, folder, &err), code);
    ck_assert_ptr_null(store);
    ck_assert_msg(strstr(err.message, words) && strstr(err.message, folder), "%s", err.message);
}

START_TEST(test_not_a_database)
{
    char rubbish[8192];

    scratch_make();
    memset(rubbish, 'r', sizeof(rubbish));
    write_file("jobs.sqlite3", rubbish, sizeof(rubbish), 0);
    expect_refusal(ELS_EFORMAT, "damaged");
    scratch_remove();
}
END_TEST

static const char to_version_1[] =
    "DROP INDEX jobs_by_owner; DROP INDEX jobs_by_owner_status; DROP INDEX jobs_by_end;"
    "CREATE INDEX jobs_by_end ON jobs(finished, sequence) WHERE finished > 0;"
    "ALTER TABLE tensors DROP COLUMN digest; ALTER TABLE gone DROP COLUMN owner; ALTER TABLE jobs DROP COLUMN inputs;"
    "DROP TABLE scales; ALTER TABLE jobs DROP COLUMN depth; PRAGMA user_version=1";

/* A file of version 1 gets what version 2 added, and keeps its jobs. */
START_TEST(test_older_version_is_brought_forward)
{
    struct srv_saved_scales got = {0};
    struct srv_job_record record = {0};
    struct srv_store_usage usage;
    struct srv_store *store;
    sqlite3 *db = NULL;

    scratch_make();
    store = open_store(folder);
    accept_one(store, 'a', NULL);
    accept_one(store, 'b', NULL);
    finish_one(store, 'a', 6000);
    srv_store_close(store);
    ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, to_version_1,
                                  NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);

    store = open_store(folder);
    check_result(store, 'a');
    ck_assert_int_eq(get(store, 'a', &record), 0);
    ck_assert_int_eq(record.depth, 1);
    srv_job_record_deinit(&record);
    usage = srv_store_usage(store);
    ck_assert_int_gt(usage.inputs, 0);
    finish_one(store, 'b', 7000);
    check_result(store, 'b');
    ck_assert_int_eq(srv_store_usage(store).inputs, 0);
    ck_assert_int_gt(srv_store_usage(store).results, usage.results);
    ck_assert_int_eq(srv_store_get_scales(store, "ann", "mine", &got, NULL), ELS_ENOENT);
    ck_assert_int_eq(srv_store_save_scales(store, "ann", "mine", "[3]", 5000, NULL), 0);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

START_TEST(test_damaged_table)
{
    char rubbish[4096 * 3];

    scratch_make();
    srv_store_close(open_store(folder));
    memset(rubbish, 'r', sizeof(rubbish));
    write_file("jobs.sqlite3", rubbish, sizeof(rubbish), 4096); /* all but the first page's schema */
    expect_refusal(ELS_EFORMAT, "damaged");
    scratch_remove();
}
END_TEST

START_TEST(test_another_version)
{
    static const char version[4] = {0, 0, 0, 99};

    scratch_make();
    srv_store_close(open_store(folder));
    write_file("jobs.sqlite3", version, sizeof(version), 60); /* user_version, in the file format's header */
    expect_refusal(ELS_EFORMAT, "version 99");
    scratch_remove();
}
END_TEST

START_TEST(test_one_daemon_per_directory)
{
    struct srv_store *store;

    scratch_make();
    store = open_store(folder);
    expect_refusal(ELS_EIO, "Another elsd");
    srv_store_close(store);
    srv_store_close(open_store(folder));
    scratch_remove();
}
END_TEST

START_TEST(test_modes)
{
    struct stat st;

    scratch_make();
    srv_store_close(open_store(at("state")));
    ck_assert_int_eq(stat(at("state"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(stat(at("state/jobs.sqlite3"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    scratch_remove();
}
END_TEST

UNIT_MAIN("store", test_life_in_memory, test_only_forward, test_idempotency, test_list, test_remove_and_tombstone,
          test_a_job_that_goes_while_it_is_read, test_retention, test_tombstones_have_owners, test_reopen_after_a_kill, test_saved_scales, test_saved_scales_are_bounded,
          test_not_a_database, test_older_version_is_brought_forward, test_damaged_table, test_another_version,
          test_one_daemon_per_directory, test_modes)
