/*
 * How long others wait for the store while results make room for themselves among many small jobs.
 *
 *     ninja -C build tests/bench_store && build/tests/bench_store FOLDER [JOBS]
 *
 * Fills an empty folder's store with JOBS (200,000) small ended jobs up to its limit; then one thread ends jobs with 1 MiB
 * of results, each of which makes about a thousand of the small ones go, and another one accepts and looks up jobs all the
 * while. Prints how long these calls took, at the median, the 99th hundredth and the worst, in milliseconds.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/store/store.h"

enum { VALUES = 512 * 512, RESULTS = 30, MOST = 100000 };

static struct srv_store *store;
static float values[VALUES];
static atomic_bool done;
static double took[MOST];
static int count;

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void check(int status, const struct els_error *err)
{
    if (status == 0)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(EXIT_FAILURE);
}

static void accept_job(int i, struct srv_job_record *r)
{
    struct els_error err = {0};

    *r = (struct srv_job_record){.kind = "sample", .created = 1, .params = (char *)"{}", .shape = {1, 512, 512},
                             .num_images = 1, .num_steps = 3, .depth = 1, .seed = 1};
    snprintf(r->id, sizeof(r->id), "%08x%024d", (unsigned)i, 0);
    memset(r->bank_sha256, 'b', 64);
    check(srv_store_accept(store, &(struct srv_acceptance){.record = r}, &err), &err);
}

static void *others(void *user)
{
    for (int i = 0; !atomic_load(&done) && count < MOST; i++) {
        struct srv_job_record r, got = {0};
        double began = now_ms();

        accept_job(0x20000000 + i, &r);
        srv_store_get(store, r.id, NULL, &got, NULL);
        took[count++] = now_ms() - began;
        srv_job_record_deinit(&got);
    }
    return NULL;
}

static void fill(const char *folder, int jobs)
{
    char path[4096], sql[700];
    sqlite3 *db = NULL;
    char *why = NULL;

    snprintf(path, sizeof(path), "%s/jobs.sqlite3", folder);
    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)"
             "INSERT INTO jobs(id, bytes, status, kind, owner, created, finished, channels, height, width, num_images,"
             " num_steps, outputs, seed, bank_sha256, params, depth) SELECT printf('f%%07x%%024d', i, 0), 1000, 2, 'sample',"
             " '', 1, i, 1, 2, 2, 1, 3, 0, 1, '', '{}', 1 FROM n",
             jobs);
    if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fprintf(stderr, "%s\n", why ? why : path);
        exit(EXIT_FAILURE);
    }
    sqlite3_close(db);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int jobs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 200000;
    struct els_error err = {0};
    pthread_t thread;
    double began;

    if (argc < 2)
        return EXIT_FAILURE;
    check(srv_store_open(&store, argv[1], &err), &err);
    store = srv_store_close(store);
    fill(argv[1], jobs);
    began = now_ms();
    check(srv_store_open(&store, argv[1], &err), &err);
    printf("opening with %d jobs: %.0f ms\n", jobs, now_ms() - began);
    srv_store_limit(store, &(struct srv_store_limits){.results = srv_store_usage(store).results});
    pthread_create(&thread, NULL, others, NULL);
    began = now_ms();
    for (int i = 0; i < RESULTS; i++) {
        struct srv_kept_tensor t = {"images", VALUES, values};
        struct srv_outcome o = {.status = SRV_SUCCEEDED, .finished = 1000000 + i, .result = "{}", .engine = "{}",
                                .num_images = 1, .tensors = &t, .num_tensors = 1};
        struct srv_job_record r;

        accept_job(0x10000000 + i, &r);
        check(srv_store_finish(store, r.id, &o, &err), &err);
    }
    printf("%d results of 1 MiB: %.0f ms each, %lld small jobs went\n", RESULTS, (now_ms() - began) / RESULTS,
           (long long)srv_store_usage(store).expired);
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    qsort(took, (size_t)count, sizeof(*took), by_size);
    printf("accepting and looking up meanwhile, %d times: median %.1f ms, p99 %.1f ms, worst %.1f ms\n", count,
           took[count / 2], took[count * 99 / 100], took[count - 1]);
    srv_store_close(store);
    return EXIT_SUCCESS;
}
