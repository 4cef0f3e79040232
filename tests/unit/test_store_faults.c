/*
 * A disk that fails: every write, sync, truncation and read of the database fails in turn, once or
 * from then on, while a job is accepted, another one finished and a third removed. Whatever the
 * calls answered must be what a store finds that opens the files afterwards: what was said to be
 * done is there whole, and nothing is there by halves.
 */
#include "unit.h"

#include <sqlite3.h>
#include <string.h>

#include "stored.h"

enum { MOST_OPERATIONS = 10000, VALUES = 3000 };

/* ---- a file system in front of SQLite's own ---- */

static sqlite3_vfs faulty, *real;
static long countdown; /* 0: nothing fails */
static bool for_good, failed;

struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static int fault(int code)
{
    if (failed && for_good)
        return code;
    if (countdown <= 0 || --countdown > 0)
        return SQLITE_OK;
    failed = true;
    return code;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct faulty_file *)file)->real;
}

/* An operation that can fail; and one that is passed on. */
#define FAULTY(name, code, parameters, arguments)                                                  \
    static int faulty_##name parameters                                                            \
    {                                                                                              \
        int rc = fault(code);                                                                      \
                                                                                                   \
        return rc ? rc : real_of(f)->pMethods->x##name arguments;                                  \
    }
#define PASSED(name, parameters, arguments)                                                        \
    static int passed_##name parameters                                                            \
    {                                                                                              \
        return real_of(f)->pMethods->x##name arguments;                                            \
    }

FAULTY(Read, SQLITE_IOERR_READ, (sqlite3_file *f, void *p, int n, sqlite3_int64 at), (real_of(f), p, n, at))
FAULTY(Write, SQLITE_FULL, (sqlite3_file *f, const void *p, int n, sqlite3_int64 at), (real_of(f), p, n, at))
FAULTY(Truncate, SQLITE_IOERR_TRUNCATE, (sqlite3_file *f, sqlite3_int64 size), (real_of(f), size))
FAULTY(Sync, SQLITE_IOERR_FSYNC, (sqlite3_file *f, int flags), (real_of(f), flags))
FAULTY(ShmMap, SQLITE_IOERR_SHMMAP, (sqlite3_file *f, int page, int size, int extend, void volatile **p),
       (real_of(f), page, size, extend, p))
PASSED(Close, (sqlite3_file *f), (real_of(f)))
PASSED(FileSize, (sqlite3_file *f, sqlite3_int64 *size), (real_of(f), size))
PASSED(Lock, (sqlite3_file *f, int lock), (real_of(f), lock))
PASSED(Unlock, (sqlite3_file *f, int lock), (real_of(f), lock))
PASSED(CheckReservedLock, (sqlite3_file *f, int *out), (real_of(f), out))
PASSED(FileControl, (sqlite3_file *f, int op, void *arg), (real_of(f), op, arg))
PASSED(SectorSize, (sqlite3_file *f), (real_of(f)))
PASSED(DeviceCharacteristics, (sqlite3_file *f), (real_of(f)))
PASSED(ShmLock, (sqlite3_file *f, int at, int n, int flags), (real_of(f), at, n, flags))
PASSED(ShmUnmap, (sqlite3_file *f, int remove), (real_of(f), remove))

static void passed_ShmBarrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, .xClose = passed_Close, .xRead = faulty_Read, .xWrite = faulty_Write,
    .xTruncate = faulty_Truncate, .xSync = faulty_Sync, .xFileSize = passed_FileSize, .xLock = passed_Lock,
    .xUnlock = passed_Unlock, .xCheckReservedLock = passed_CheckReservedLock, .xFileControl = passed_FileControl,
    .xSectorSize = passed_SectorSize, .xDeviceCharacteristics = passed_DeviceCharacteristics,
    .xShmMap = faulty_ShmMap, .xShmLock = passed_ShmLock, .xShmBarrier = passed_ShmBarrier,
    .xShmUnmap = passed_ShmUnmap,
};

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct faulty_file *f = (struct faulty_file *)file;
    int rc;

    f->real = (sqlite3_file *)(f + 1);
    rc = real->xOpen(real, name, f->real, flags, out);
    f->base.pMethods = f->real->pMethods ? &methods : NULL;
    return rc;
}

static void install(void)
{
    real = sqlite3_vfs_find(NULL);
    faulty = *real;
    faulty.zName = "faulty";
    faulty.szOsFile = (int)sizeof(struct faulty_file) + real->szOsFile;
    faulty.xOpen = faulty_open;
    ck_assert_int_eq(sqlite3_vfs_register(&faulty, 1), SQLITE_OK);
}

/* ---- a store ---- */

static float values[2 * VALUES]; /* of both images */

/* Its images are as large as the tests' tensors. */
static struct srv_job_record large_record_of(char digit)
{
    struct srv_job_record r = record_of(digit);

    r.shape = (struct els_shape){1, VALUES / 50, 50};
    return r;
}

static int accept_one(struct srv_store *store, char digit, struct els_error *err)
{
    struct srv_job_record r = large_record_of(digit);

    return srv_store_accept(store, &(struct srv_acceptance){.record = &r}, err);
}

static int finish_one(struct srv_store *store, char digit, struct els_error *err)
{
    struct srv_job_record r = record_of(digit);
    struct srv_kept_tensor tensor = {"images", VALUES, values};
    struct srv_outcome o = {.status = SRV_SUCCEEDED, .finished = 2, .last_event = 3, .result = "{}", .engine = "{}",
                            .num_images = 2, .tensors = &tensor, .num_tensors = 1};

    return srv_store_finish(store, r.id, &o, err);
}

static int status_of(struct srv_store *store, char digit)
{
    struct srv_job_record r = record_of(digit), got = {0};
    int status = srv_store_get(store, r.id, NULL, &got, NULL);

    status = status == 0 ? (int)got.status : status == SRV_STORE_GONE ? 100 : status;
    srv_job_record_deinit(&got);
    return status;
}

/* A result is there whole or not at all. */
static void check_result(struct srv_store *store, char digit)
{
    struct srv_job_record r = record_of(digit);
    bool whole = status_of(store, digit) == SRV_SUCCEEDED;
    static float got[VALUES];

    for (int image = 0; image < 2; image++) {
        ck_assert_int_eq(srv_store_read_tensor(store, r.id, "images", image, 0, VALUES, got, NULL),
                         whole ? 0 : ELS_ENOENT);
        if (whole)
            ck_assert_mem_eq(got, values + image * VALUES, sizeof(got));
    }
}

/* Job a is finished, b accepted, c removed while operation `nth` fails. False: there are fewer. */
static bool fail_at(long nth, bool good)
{
    struct srv_job_record c = record_of('c');
    struct els_error err[3] = {{0}};
    struct srv_store *store;
    int finished, accepted, removed;

    scratch_make();
    store = open_store(folder);
    ck_assert_int_eq(accept_one(store, 'a', NULL), 0);
    ck_assert_int_eq(accept_one(store, 'c', NULL), 0);
    ck_assert_int_eq(finish_one(store, 'c', NULL), 0);
    failed = false;
    for_good = good;
    countdown = nth;
    finished = finish_one(store, 'a', &err[0]);
    accepted = accept_one(store, 'b', &err[1]);
    removed = srv_store_remove(store, c.id, NULL, 5, &err[2]);
    ck_assert(finished == 0 || err[0].message[0]);
    ck_assert(accepted == 0 || err[1].message[0]);
    ck_assert(removed == 0 || err[2].message[0]);
    ck_assert_msg(!failed || !good || finished < 0 || accepted < 0 || removed < 0, "nothing noticed operation %ld", nth);
    store = srv_store_close(store); /* which may fail to fold the log into the file */
    countdown = 0;
    for_good = false;

    store = open_store(folder);
    if (finished == 0)
        ck_assert_int_eq(status_of(store, 'a'), SRV_SUCCEEDED);
    if (accepted == 0)
        ck_assert_int_eq(status_of(store, 'b'), SRV_QUEUED);
    if (removed == 0)
        ck_assert_int_eq(status_of(store, 'c'), 100);
    for (char digit = 'a'; digit <= 'c'; digit++)
        check_result(store, digit);
    ck_assert_int_ge(status_of(store, 'a'), SRV_QUEUED); /* it was accepted: it is never lost */
    srv_store_close(store);
    scratch_remove();
    return failed;
}

static void fail_each(bool good)
{
    long n = 1;

    for (int i = 0; i < 2 * VALUES; i++)
        values[i] = (float)i;
    while (fail_at(n, good))
        ck_assert_int_lt(++n, MOST_OPERATIONS);
    printf("%ld operations failed%s\n", n - 1, good ? ", each with all after it" : "");
    ck_assert_int_gt(n, 10);
}

START_TEST(test_once)
{
    install();
    fail_each(false);
}
END_TEST

START_TEST(test_for_good)
{
    install();
    fail_each(true);
}
END_TEST

UNIT_MAIN("store_faults", test_once, test_for_good)
