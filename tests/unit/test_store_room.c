/*
 * Room in the store: what the totals say, that no limit is ever passed, who goes and who never does, and what of the file
 * is given back. Nothing here looks at a clock: what a stall would come from is counted, in SQLite's own counters.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "server/store/store_db.h"
#include "stored.h"
#include "unit.h"

enum { SIDE = 64, VALUES = SIDE * SIDE };

static float values[VALUES];

static struct srv_job_record job(int i)
{
    struct srv_job_record r = record_of('0');
    char digits[9];

    snprintf(digits, sizeof(digits), "%08x", (unsigned)i);
    memcpy(r.id, digits, 8);
    r.shape = (struct els_shape){1, SIDE, SIDE};
    r.num_images = 1;
    return r;
}

static void accept(struct srv_store *store, int i, const void *inputs, size_t size)
{
    struct srv_job_record r = job(i);
    struct srv_acceptance a = {.record = &r, .inputs = inputs, .inputs_size = size};
    struct els_error err = {0};

    ck_assert_msg(srv_store_accept(store, &a, &err) == 0, "%s", err.message);
}

/* With one tensor of 16 KiB, or none. */
static int finish_with(struct srv_store *store, int i, enum srv_status status, bool tensor, struct els_error *err)
{
    struct srv_job_record r = job(i);
    struct srv_kept_tensor kept = {"images", VALUES, values};
    struct srv_outcome o = {.status = status, .finished = 1000 + i, .last_event = 3, .num_images = 1,
                            .result = status == SRV_SUCCEEDED ? "{}" : NULL,
                            .error = status == SRV_FAILED ? "{}" : NULL, .tensors = &kept, .num_tensors = tensor};

    return srv_store_finish(store, r.id, &o, err);
}

static void finish(struct srv_store *store, int i)
{
    struct els_error err = {0};

    ck_assert_msg(finish_with(store, i, SRV_SUCCEEDED, true, &err) == 0, "%s", err.message);
}

static int status_of(struct srv_store *store, int i)
{
    struct srv_job_record r = job(i), got = {0};
    int status = srv_store_get(store, r.id, NULL, &got, NULL);

    srv_job_record_deinit(&got);
    return status;
}

static int64_t number(const char *sql)
{
    sqlite3_stmt *s = NULL;
    sqlite3 *db = NULL;
    int64_t value;

    ck_assert_int_eq(sqlite3_open_v2(at("jobs.sqlite3"), &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

static int64_t size_of(const char *name)
{
    struct stat st;

    return stat(at(name), &st) == 0 ? st.st_size : 0;
}

static void check_totals(struct srv_store *store)
{
    struct srv_store_usage usage = srv_store_usage(store);

    ck_assert_int_eq(usage.results, number("SELECT coalesce(sum(bytes),0) FROM jobs WHERE status>1"));
    ck_assert_int_eq(usage.inputs, number("SELECT coalesce(sum(inputs),0) FROM jobs WHERE status<=1"));
}

/* After every call they are what adding up would give, and so they are after another start. */
START_TEST(test_totals_are_kept)
{
    static const char tensors[50000];
    struct srv_store_usage before;
    struct srv_store *store;

    scratch_make_in_memory();
    store = open_store(folder);
    srv_store_limit(store, &(struct srv_store_limits){.results = 8 * 20000});
    for (int i = 0; i < 40; i++) {
        struct srv_job_record r = job(i);

        accept(store, i, tensors, (size_t)(i % 3) * 25000);
        check_totals(store);
        if (i % 4 == 3)
            ck_assert_int_eq(finish_with(store, i, i % 8 == 3 ? SRV_CANCELLED : SRV_FAILED, false, NULL), 0);
        else if (i % 10 != 9)
            finish(store, i);
        check_totals(store);
        if (i % 7 == 6)
            srv_store_remove(store, r.id, NULL, 5, NULL);
        check_totals(store);
    }
    before = srv_store_usage(store);
    ck_assert_int_gt(before.expired, 0);
    srv_store_close(store);
    store = open_store(folder);
    ck_assert_int_eq(srv_store_usage(store).results, before.results);
    ck_assert_int_eq(srv_store_usage(store).inputs, before.inputs);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

/* At no moment is more kept than the limit says: nor in the file, but for its log and the slack. */
static void overfill(const char *where)
{
    enum { MOST = 1 << 20, JOBS = 300 };
    struct srv_store *store = open_store(where);
    bool gone = true;

    srv_store_limit(store, &(struct srv_store_limits){.results = MOST});
    for (int i = 0; i < JOBS; i++) {
        accept(store, i, NULL, 0);
        finish(store, i);
        ck_assert_int_le(srv_store_usage(store).results, MOST);
        ck_assert_int_eq(status_of(store, i), 0); /* the newest is kept */
    }
    ck_assert_int_gt(srv_store_usage(store).results, MOST / 2); /* and no more goes than has to */
    for (int i = 0; i < JOBS; i++) { /* the oldest went */
        int status = status_of(store, i);

        gone = gone && status != 0;
        ck_assert_int_eq(status, gone ? SRV_STORE_GONE : 0);
    }
    if (*where) {
        ck_assert_int_le(number("SELECT sum(pgsize) FROM dbstat WHERE name IN ('jobs','tensors','pictures')"),
                         MOST + MOST / 4);
        ck_assert_int_le(size_of("jobs.sqlite3"), 3 * MOST);
    }
    srv_store_close(store);
}

START_TEST(test_the_limit_holds_at_all_times)
{
    overfill("");
    scratch_make_in_memory();
    overfill(folder);
    scratch_remove();
}
END_TEST

/* What could never fit is refused, and nothing went for it. */
START_TEST(test_a_result_beyond_the_limit_is_refused)
{
    struct srv_store *store = open_store("");
    struct els_error err = {0};

    accept(store, 0, NULL, 0);
    finish(store, 0);
    accept(store, 1, NULL, 0);
    srv_store_limit(store, &(struct srv_store_limits){.results = 16000});
    ck_assert_int_eq(finish_with(store, 1, SRV_SUCCEEDED, true, &err), ELS_ELIMIT);
    ck_assert_str_eq(err.field, "retention_bytes");
    ck_assert_int_eq(status_of(store, 0), 0);
    ck_assert_int_eq(finish_with(store, 1, SRV_FAILED, false, &err), 0);
    ck_assert_int_eq(status_of(store, 0), SRV_STORE_GONE); /* it was beyond the new limit itself */
    srv_store_close(store);
}
END_TEST

/* What waits makes no result go, is refused beyond its own limit, and is gone with the end, whatever the end is. */
START_TEST(test_inputs_evict_nothing)
{
    enum { MOST = 1 << 20, SIZE = 100000 };
    static const char tensors[SIZE];
    static const enum srv_status ends[] = {SRV_SUCCEEDED, SRV_FAILED, SRV_CANCELLED};
    struct els_error err = {0};
    struct srv_store *store;
    struct srv_job_record r;
    int waiting = 1;

    scratch_make_in_memory();
    store = open_store(folder);
    srv_store_limit(store, &(struct srv_store_limits){.results = MOST, .inputs = MOST});
    accept(store, 0, NULL, 0);
    finish(store, 0);
    for (; waiting <= 2 * MOST / SIZE; waiting++) {
        struct srv_acceptance a = {.record = &r, .inputs = tensors, .inputs_size = SIZE};

        r = job(waiting);
        if (srv_store_accept(store, &a, &err) < 0)
            break;
        ck_assert_int_le(srv_store_usage(store).inputs, MOST);
    }
    ck_assert_str_eq(err.field, "queue_bytes");
    ck_assert_int_ge(waiting, 9);
    ck_assert_int_eq(srv_store_has_room(store, 2 * MOST, &err), ELS_ELIMIT);
    ck_assert_str_eq(err.field, "inputs");
    while (srv_store_tidy(store, 2000, 3600, NULL) == 1)
        ;
    ck_assert_int_eq(status_of(store, 0), 0);
    for (int i = 1; i < waiting; i++) {
        ck_assert_int_eq(finish_with(store, i, ends[i % 3], false, &err), 0);
        ck_assert_int_eq(number("SELECT count(*) FROM tensors WHERE name='inputs'"), waiting - 1 - i);
    }
    ck_assert_int_eq(srv_store_usage(store).inputs, 0);
    ck_assert_int_eq(status_of(store, 0), 0);
    check_totals(store);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

/* Results are charged to their owners, as much as they are counted; a refused charge makes the oldest go. */
static void charge(const char *where, enum srv_charge_class class)
{
    enum { LIMIT = 200000 };
    const struct srv_account_limits limits = {
        .bytes = {LIMIT, LIMIT}, .percent_per_key = 50, .percent_per_address = 50};
    struct srv_accounts *accounts = NULL;
    struct srv_account_totals totals;
    struct srv_store *store;
    struct els_error err = {0};
    struct srv_job_record last = job(29);

    ck_assert_int_eq(srv_accounts_new(&accounts, &limits), 0);
    store = open_store(where);
    ck_assert_int_eq(srv_store_charge(store, accounts, &err), 0);
    for (int i = 0; i < 30; i++) {
        accept(store, i, NULL, 0);
        finish(store, i);
        srv_accounts_totals(accounts, &totals);
        ck_assert_int_eq(totals.held[class], srv_store_usage(store).results);
        ck_assert_int_le(totals.held[class], LIMIT);
        ck_assert_int_eq(status_of(store, i), 0);
    }
    ck_assert_int_eq(status_of(store, 0), SRV_STORE_GONE);
    ck_assert_int_eq(srv_store_remove(store, last.id, NULL, 5, NULL), 0);
    srv_accounts_totals(accounts, &totals);
    ck_assert_int_eq(totals.held[class], srv_store_usage(store).results);
    srv_store_close(store);
    if (*where) { /* the next process is charged for what it finds */
        store = open_store(where);
        ck_assert_int_eq(srv_store_charge(store, accounts, &err), 0);
        ck_assert_int_gt(srv_store_usage(store).results, 0);
        srv_accounts_totals(accounts, &totals);
        ck_assert_int_eq(totals.held[class], srv_store_usage(store).results);
        srv_store_close(store);
    }
    srv_accounts_totals(accounts, &totals);
    ck_assert_int_eq(totals.held[class], 0);
    srv_accounts_free(accounts);
}

START_TEST(test_results_are_charged)
{
    charge("", SRV_CHARGE_STORED);
    scratch_make_in_memory();
    charge(folder, SRV_CHARGE_DISK_RESULTS);
    scratch_remove();
}
END_TEST

/* ---- how much one call does ---- */

/* Rows that a call steps through, and full scans, over all statements of the writer. */
static int64_t counted(struct srv_store *store, int which)
{
    int64_t sum = 0;

    for (int i = 0; i < SQL_COUNT; i++)
        if (store->writer.statements[i])
            sum += sqlite3_stmt_status(store->writer.statements[i], which, 1);
    return sum;
}

/* Thousands of jobs of a few hundred bytes, made in one transaction. */
static void fill(int count)
{
    sqlite3 *db = NULL;
    char sql[700];

    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i+1 FROM n WHERE i<%d)"
             "INSERT INTO jobs(id, bytes, status, kind, owner, created, finished, channels, height, width, num_images,"
             " num_steps, outputs, seed, bank_sha256, params, depth)"
             " SELECT printf('%%08x%%024d', i, 0), 1000, 2, 'sample', '', 1, i, 1, 2, 2, 1, 3, 0, 1, '', '{}', 1 FROM n",
             999 + count);
    ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* The steps of SQLite's machine that a result of 20 KB takes when `count` jobs fill the store. */
static int64_t steps_of_a_result(int count)
{
    struct srv_store *store;
    int64_t steps, limit;

    scratch_make_in_memory();
    srv_store_close(open_store(folder));
    fill(count);
    store = open_store(folder);
    limit = srv_store_usage(store).results;
    ck_assert_int_eq(limit, count * 1000);
    srv_store_limit(store, &(struct srv_store_limits){.results = limit});
    for (int i = 0; i < 2; i++) {
        accept(store, i, NULL, 0);
        counted(store, SQLITE_STMTSTATUS_VM_STEP);
        counted(store, SQLITE_STMTSTATUS_FULLSCAN_STEP);
        finish(store, i); /* the second time every statement is prepared */
    }
    steps = counted(store, SQLITE_STMTSTATUS_VM_STEP);
    ck_assert_int_eq(counted(store, SQLITE_STMTSTATUS_FULLSCAN_STEP), 0);
    ck_assert_int_le(srv_store_usage(store).results, limit);
    ck_assert_int_ge(srv_store_usage(store).expired, 15);
    srv_store_close(store);
    scratch_remove();
    return steps;
}

/* Ten times as many jobs: a result takes as many steps as before, and one removes some 20 of them. */
START_TEST(test_the_number_of_jobs_costs_nothing)
{
    int64_t few = steps_of_a_result(2000), many = steps_of_a_result(20000);

    printf("%lld steps with 2,000 jobs, %lld with 20,000\n", (long long)few, (long long)many);
    ck_assert_int_lt(many, few + few / 10);
}
END_TEST

/* Room for a large result: many go, in transactions of a few, and others have the lock in between. */
START_TEST(test_removals_are_bounded)
{
    enum { JOBS = 2000 };
    struct srv_store *store;
    int64_t before;

    scratch_make_in_memory();
    srv_store_close(open_store(folder));
    fill(JOBS);
    store = open_store(folder);
    srv_store_limit(store, &(struct srv_store_limits){.results = 30000});
    before = sqlite3_total_changes64(store->writer.handle);
    for (int pieces = 1; srv_store_tidy(store, 5000, 3600, NULL) == 1; pieces++) {
        int64_t changes = sqlite3_total_changes64(store->writer.handle);

        ck_assert_int_le(changes - before, 2 * 32); /* a job and its tombstone */
        ck_assert_int_le(pieces, JOBS);
        before = changes;
    }
    ck_assert_int_le(srv_store_usage(store).results, 30000);
    ck_assert_int_eq(number("SELECT count(*) FROM gone"), srv_store_usage(store).expired);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

/* The file shrinks again, a little at a time. */
START_TEST(test_disk_is_given_back)
{
    enum { JOBS = 1500 };
    struct srv_store *store;
    int64_t full, last;
    int pieces = 0;

    scratch_make_in_memory();
    store = open_store(folder);
    for (int i = 0; i < JOBS; i++) {
        accept(store, i, NULL, 0);
        finish(store, i);
    }
    full = number("PRAGMA page_count");
    srv_store_limit(store, &(struct srv_store_limits){.results = 1 << 20});
    last = full;
    while (srv_store_tidy(store, 5000, 3600, NULL) == 1) {
        int64_t now = number("PRAGMA page_count");

        ck_assert_int_le(last - now, 256 + 8); /* and the pages that map them */
        last = now;
        ck_assert_int_lt(++pieces, JOBS);
    }
    printf("%lld pages, then %lld\n", (long long)full, (long long)last);
    ck_assert_int_lt(last, full / 3);
    ck_assert_int_eq(status_of(store, JOBS - 1), 0);
    srv_store_close(store);
    ck_assert_int_le(size_of("jobs.sqlite3"), (int64_t)last * 4096);
    scratch_remove();
}
END_TEST

/* Tombstones are bounded. */
START_TEST(test_tombstones_are_bounded)
{
    enum { MOST = 100000, MORE = 3000 };
    struct srv_store *store;
    sqlite3 *db = NULL;
    char sql[300];

    scratch_make_in_memory();
    srv_store_close(open_store(folder));
    snprintf(sql, sizeof(sql), "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)"
                               "INSERT INTO gone(id, at) SELECT printf('%%032d', i), i FROM n",
             MOST + MORE);
    ck_assert_int_eq(sqlite3_open(at("jobs.sqlite3"), &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
    store = open_store(folder);
    for (int pieces = 0; srv_store_tidy(store, 5000, 3600, NULL) == 1; pieces++)
        ck_assert_int_le(pieces, MORE / 512 + 2);
    ck_assert_int_eq(number("SELECT count(*) FROM gone"), MOST);
    ck_assert_int_eq(number("SELECT min(at) FROM gone"), MORE + 1);
    srv_store_close(store);
    scratch_remove();
}
END_TEST

UNIT_MAIN("store_room", test_totals_are_kept, test_the_limit_holds_at_all_times,
          test_a_result_beyond_the_limit_is_refused, test_inputs_evict_nothing, test_results_are_charged, test_the_number_of_jobs_costs_nothing,
          test_removals_are_bounded, test_disk_is_given_back, test_tombstones_are_bounded)
