/*
 * The routes of sampling and of jobs that exist: make, list, look, fetch, follow, delete. Handlers run in the handler pool.
 * submit.c makes the jobs.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/answer_room.h"
#include "server/api/api_events.h"
#include "server/api/results.h"
#include "server/api/submit.h"
#include "server/base/clock.h"
#include "server/jobs/job_service.h"

enum {
    LIST_DEFAULT = 20,
    LIST_MOST = 100,
    LIST_BYTES = 4 << 20, /* of records on a page, but for its last */
    MAX_ZOOM = 16,
    NUMBER_MOST = 12, /* digits */
    ENDING_MS = 30 * 1000,
};

static struct srv_jobs *jobs_of(const struct srv_request *req)
{
    return srv_request_daemon(req)->jobs;
}

/* A segment of the path as a number: −1 when it is none, which no index matches. */
static int64_t index_arg(const struct srv_request *req, size_t i)
{
    const char *text = srv_request_arg(req, i);
    size_t n = strspn(text, "0123456789");

    return n > 0 && n <= NUMBER_MOST && text[n] == '\0' ? strtoll(text, NULL, 10) : -1;
}

static void post_samples(struct srv_request *req, struct srv_response *res)
{
    srv_post_and_wait(req, res, &srv_job_type_sample);
}

static void post_jobs(struct srv_request *req, struct srv_response *res)
{
    srv_post_job(req, res, &srv_job_type_sample);
}

/* ---- one job ---- */

static void get_job(struct srv_request *req, struct srv_response *res)
{
    const char *type = srv_request_accepts(req, res, srv_results_types);
    const char *id = srv_request_arg(req, 0);
    struct srv_job_record record = {0};

    if (!type)
        return;
    if (strcmp(type, SRV_JSON_TYPE) == 0) {
        if (srv_results_find(req, res, id, &record))
            srv_results_json(req, res, 200, &record);
    } else if (srv_results_find_succeeded(req, res, id, &record)) {
        srv_results_answer(req, res, &record, type);
    }
    srv_job_record_deinit(&record);
}

static void get_image(struct srv_request *req, struct srv_response *res)
{
    struct srv_job_record record = {0};
    int64_t zoom;

    if (srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &zoom) &&
        srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        srv_results_image(req, res, &record, index_arg(req, 1), (int)zoom);
    srv_job_record_deinit(&record);
}

static void get_sheet(struct srv_request *req, struct srv_response *res)
{
    struct srv_job_record record = {0};
    int64_t zoom;

    if (srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &zoom) &&
        srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        srv_results_sheet(req, res, &record, (int)zoom);
    srv_job_record_deinit(&record);
}

static void get_step(struct srv_request *req, struct srv_response *res)
{
    const char *of = srv_request_query(req, "of");
    bool xt = of && strcmp(of, "xt") == 0;
    struct srv_job_record record = {0};
    int64_t zoom;

    if (of && !xt && strcmp(of, "x0") != 0)
        srv_problem_invalid(res, "?of", "of is \"%.40s\"; it must be x0 or xt.", of);
    else if (srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &zoom) &&
             srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        srv_results_step(req, res, &record, index_arg(req, 1), index_arg(req, 2), xt, (int)zoom);
    srv_job_record_deinit(&record);
}

static void get_mosaic(struct srv_request *req, struct srv_response *res)
{
    struct srv_job_record record = {0};
    int64_t step;

    if (srv_request_query_int(req, res, "step", 0, INT32_MAX, -1, &step) &&
        srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        srv_results_mosaic(req, res, &record, index_arg(req, 1), step);
    srv_job_record_deinit(&record);
}

static void get_map(struct srv_request *req, struct srv_response *res)
{
    struct srv_job_record record = {0};
    int64_t step, zoom;

    if (srv_request_query_int(req, res, "step", 0, INT32_MAX, -1, &step) &&
        srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &zoom) &&
        srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        srv_results_map(req, res, &record, index_arg(req, 1), step, srv_request_arg(req, 2), (int)zoom);
    srv_job_record_deinit(&record);
}

static void get_tensors(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_query(req, "name");
    struct srv_job_record record = {0};

    if (!srv_results_find_succeeded(req, res, srv_request_arg(req, 0), &record))
        return;
    if (name)
        srv_results_tensor(req, res, &record, name);
    else
        srv_results_tensors(req, res, &record);
    srv_job_record_deinit(&record);
}

/* ---- the list ---- */

struct page {
    struct srv_response *res;
    struct srv_jobs *jobs;
    json_t *list;
    int64_t last; /* the sequence of the last one on the page */
    int room;
    size_t bytes; /* that the page may still take; its first record takes what it takes */
    bool more;
    bool refused; /* the answer's charge: the refusal is in `res` */
    size_t charged;
    int status; /* the filter, as srv_store_query has it */
};

static int add_json(struct page *page, const struct srv_job_record *record)
{
    if (page->status >= 0 && (int)record->status != page->status)
        return 0; /* it has moved on since the store was asked */
    return json_array_append_new(page->list, srv_job_record_json(record, SRV_RECORD_BRIEF));
}

static size_t text_size(const char *text)
{
    return text ? strlen(text) : 0;
}

enum { PAGE_FULL = 1 };

/* A job of the page; the last of the query only tells that there is a next page. */
static int add_job(void *user, const struct srv_job_record *record)
{
    struct page *page = user;
    struct srv_job_record live = {0};
    struct srv_job *job;
    size_t size;
    int status;

    size = text_size(record->params) + text_size(record->error) + text_size(record->engine);
    if (page->room-- == 0 || (size > page->bytes && page->last > 0)) {
        page->more = true;
        return PAGE_FULL;
    }
    page->charged += srv_room_record(record, SRV_RECORD_BRIEF);
    page->refused = !srv_response_charge(page->res, page->charged);
    if (page->refused)
        return PAGE_FULL;
    page->bytes -= size < page->bytes ? size : page->bytes;
    page->last = record->sequence;
    job = srv_status_ended(record->status) ? NULL : srv_jobs_live(page->jobs, record->id);
    if (!job)
        return add_json(page, record);
    status = srv_jobs_live_record(page->jobs, job, &live);
    if (status == 0)
        status = add_json(page, &live);
    srv_job_record_deinit(&live);
    srv_job_unref(job);
    return status;
}

static bool read_query(struct srv_request *req, struct srv_response *res, struct srv_store_query *query)
{
    const char *status = srv_request_query(req, "status");
    enum srv_status parsed;
    int64_t limit, cursor;

    *query = (struct srv_store_query){.status = -1, .owner = srv_request_key(req)};
    if (status && *status) {
        if (srv_status_parse(status, &parsed) < 0) {
            srv_problem_invalid(res, "?status",
                                "status is \"%.40s\"; it must be queued, running, succeeded, failed or cancelled.",
                                status);
            return false;
        }
        query->status = (int)parsed;
    }
    if (!srv_request_query_int(req, res, "limit", 1, LIST_MOST, LIST_DEFAULT, &limit) ||
        !srv_request_query_int(req, res, "cursor", 1, INT64_MAX, INT64_MAX, &cursor))
        return false;
    query->limit = (int)limit;
    query->before = cursor;
    return true;
}

static void list_jobs(struct srv_request *req, struct srv_response *res)
{
    struct page page = {.res = res, .jobs = jobs_of(req), .list = json_array(), .bytes = LIST_BYTES};
    struct srv_store_query query;
    struct els_error err = {0};
    int status;

    if (!read_query(req, res, &query))
        goto out;
    page.room = query.limit++;
    page.status = query.status;
    status = page.list ? srv_store_list(page.jobs->store, &query, add_job, &page, &err) : ELS_ENOMEM;
    if (page.refused)
        goto out;
    if (status == ELS_ECANCELLED && page.more)
        status = 0; /* the page is full */
    if (status < 0)
        srv_problem(res, 500, "store_failed", "%s", err.message[0] ? err.message : els_status_text(ELS_ENOMEM));
    else
        srv_response_json(res, 200,
                          json_pack("{s:O, s:o}", "jobs", page.list, "next_cursor",
                                    page.more ? json_sprintf("%lld", (long long)page.last) : json_null()));
out:
    json_decref(page.list);
}

/* ---- the end ---- */

/* A cancelled job has no results to remove: it stays, so that deleting twice says the same twice. */
static void delete_ended(struct srv_request *req, struct srv_response *res, const char *id)
{
    struct srv_job_record record = {0};
    struct els_error err = {0};
    const char *key = srv_request_key(req);
    int status = srv_jobs_record(jobs_of(req), id, key, &record, &err);

    /* What is damaged can be deleted all the same. */
    if (status != 0 && !srv_store_is_damage(&err)) {
        srv_results_store_problem(res, status, &err, id);
    } else if (status == 0 && record.status == SRV_CANCELLED) {
        srv_results_json(req, res, 200, &record);
    } else {
        status = srv_store_remove(jobs_of(req)->store, id, key, srv_now_ms(), &err);
        if (status == 0)
            srv_response_json(res, 200, json_pack("{s:s, s:b}", "id", id, "deleted", 1));
        else
            srv_results_store_problem(res, status, &err, id);
    }
    srv_job_record_deinit(&record);
}

/* A request that waits until an outcome is stored. */
struct ending {
    struct srv_job *job;
    struct srv_waker *waker; /* NULL: it does not wait */
    int64_t until;           /* monotonic ms */
};

static void free_ending(void *user)
{
    struct ending *e = user;

    if (e->waker)
        srv_waiters_remove(&e->job->watchers, e->waker);
    srv_waker_unref(e->waker);
    srv_job_unref(e->job);
    free(e);
}

/* NULL: it cannot wait. */
static struct ending *begin_ending(struct srv_request *req, struct srv_job *job)
{
    struct ending *e = els_alloc_array(1, sizeof(*e));
    struct srv_waker *waker = srv_request_waker(req);

    if (!e)
        return NULL;
    e->job = srv_job_ref(job);
    e->until = srv_monotonic_ms() + ENDING_MS;
    if (srv_waiters_add(&job->watchers, waker) == 0)
        e->waker = srv_waker_ref(waker);
    return e;
}

/* It is too late to cancel the job: once it has ended, it is removed. */
static void delete_ending(struct srv_request *req, struct srv_response *res, struct srv_job *job)
{
    struct ending *e = srv_request_state(req);
    bool new = !e;

    if (new)
        e = begin_ending(req, job);
    if (srv_status_ended(srv_job_status(job))) {
        delete_ended(req, res, job->record.id);
    } else if (e && e->waker && srv_monotonic_ms() < e->until && !srv_request_timed_out(req)) {
        srv_response_park(req, res, (int)(e->until - srv_monotonic_ms()), e, free_ending);
        return;
    } else {
        srv_problem(res, 409, "job_ending", "The job %s has been computed, and its result is being stored: it can no "
                    "longer be cancelled. Once it has ended it can be removed.", job->record.id);
    }
    if (new && e)
        free_ending(e);
}

static void delete_live(struct srv_request *req, struct srv_response *res, struct srv_job *job)
{
    struct srv_job_record record = {0};
    struct els_error err = {0};
    int status = srv_jobs_cancel(jobs_of(req), job, &err);

    if (status == SRV_JOBS_ENDING) {
        delete_ending(req, res, job);
        return;
    }
    if (status < 0 && status != ELS_ECANCELLED) {
        srv_problem(res, 500, "store_failed", "%s", err.message);
        return;
    }
    if (srv_jobs_live_record(jobs_of(req), job, &record) == 0)
        srv_results_json(req, res, status == 0 ? 200 : 202, &record);
    else
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    srv_job_record_deinit(&record);
}

static void delete_job(struct srv_request *req, struct srv_response *res)
{
    const char *id = srv_request_arg(req, 0);
    struct srv_job *job = srv_jobs_live_for(jobs_of(req), id, srv_request_key(req));

    if (job && !srv_status_ended(srv_job_status(job)))
        delete_live(req, res, job);
    else
        delete_ended(req, res, id);
    srv_job_unref(job);
}

const struct srv_route srv_jobs_routes[] = {
    {"POST", "/v1/samples", post_samples, SRV_ROUTE_COSTLY},
    {"POST", "/v1/jobs", post_jobs, SRV_ROUTE_COSTLY},
    {"GET", "/v1/jobs", list_jobs, 0},
    {"GET", "/v1/jobs/{id}", get_job, 0},
    {"DELETE", "/v1/jobs/{id}", delete_job, 0},
    {"GET", "/v1/jobs/{id}/images/{i}", get_image, SRV_ROUTE_ZOOMS},
    {"GET", "/v1/jobs/{id}/images/{i}/steps/{s}", get_step, SRV_ROUTE_ZOOMS},
    {"GET", "/v1/jobs/{id}/images/{i}/mosaic", get_mosaic, SRV_ROUTE_COSTLY},
    {"GET", "/v1/jobs/{id}/images/{i}/mosaic/{map}", get_map, SRV_ROUTE_COSTLY},
    {"GET", "/v1/jobs/{id}/sheet", get_sheet, SRV_ROUTE_COSTLY},
    {"GET", "/v1/jobs/{id}/tensors", get_tensors, SRV_ROUTE_COSTLY},
    {"GET", "/v1/jobs/{id}/events", srv_get_events, 0},
    {0},
};
