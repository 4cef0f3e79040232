/*
 * GET /v1/jobs/{id}/events: opens a stream over a job's ring of events. The handler runs in the back room; the stream it
 * leaves behind is read on an HTTP thread and only copies memory (events.c).
 *
 * A job that has ended is no longer live, and its events are gone but for the last, which is made again from the
 * store, with the number it had. So a client that was cut off learns the end exactly once more.
 */
#include "api_events.h"

#include <errno.h>
#include <stdlib.h>

#include "json.h"
#include "results.h"
#include "service.h"

/* What a stream holds on to. */
struct following {
    struct srv_events_reader *reader;
    struct srv_job *job; /* NULL: the job had ended */
    struct srv_waker *waker;
};

static ssize_t read_following(void *user, char *out, size_t size, bool ping)
{
    struct following *f = user;

    return srv_events_read(f->reader, out, size, ping);
}

static void free_following(void *user)
{
    struct following *f = user;

    if (f->job)
        srv_watch_remove(&f->job->watchers, f->waker);
    srv_waker_unref(f->waker);
    srv_events_reader_free(f->reader);
    srv_job_unref(f->job);
    free(f);
}

/* The number that the client saw last: true when it is one. */
static bool last_event_id(const struct srv_request *req, uint64_t *out)
{
    const char *text = srv_request_header(req, "Last-Event-ID");
    char *end = NULL;

    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* A snapshot first, unless the client can go on where it was. */
static int open_live(struct following *f, const struct srv_request *req)
{
    struct srv_events *events = f->job->events;
    uint64_t after = 0;
    bool resumes = last_event_id(req, &after) && srv_events_resumable(events, after);
    char *snapshot = NULL;
    int status = ELS_ENOMEM;

    if (!resumes) {
        /* Taken before the snapshot: what happens in between is told twice rather than not at all. */
        after = srv_events_fresh(events);
        snapshot = srv_job_text(f->job);
    }
    if (resumes || snapshot)
        status = srv_events_reader_new(&f->reader, events, after, snapshot);
    free(snapshot);
    return status;
}

static int open_ended(struct following *f, const struct srv_record *record)
{
    json_t *json = srv_record_json(record, SRV_RECORD_WHOLE);
    char *text = els_json_text(json, JSON_COMPACT);
    struct srv_events *events = NULL;
    int status = ELS_ENOMEM;

    if (text)
        status = srv_events_new_ended(&events, record->last_event, srv_status_name(record->status), text);
    if (status == 0)
        status = srv_events_reader_new(&f->reader, events, srv_events_fresh(events), text);
    srv_events_unref(events);
    free(text);
    json_decref(json);
    return status;
}

/* Finds the job and opens a reader. False: the problem is in `res`. */
static bool open_reader(struct srv_request *req, struct srv_response *res, struct following *f)
{
    const char *id = srv_request_arg(req, 0);
    struct srv_jobs *jobs = srv_request_daemon(req)->jobs;
    struct srv_record record = {0};
    int status;

    f->job = srv_jobs_live_for(jobs, id, srv_request_key(req));
    if (f->job) {
        f->waker = srv_waker_ref(srv_request_waker(req));
        status = srv_watch_add(&f->job->watchers, f->waker);
        if (status == 0)
            status = open_live(f, req);
    } else {
        if (!srv_results_find(req, res, id, &record))
            return false;
        status = open_ended(f, &record);
        srv_record_deinit(&record);
    }
    if (status < 0)
        srv_problem(res, 500, "out_of_memory", "Memory is out.");
    return status == 0;
}

void srv_get_events(struct srv_request *req, struct srv_response *res)
{
    struct following *f = els_alloc_array(1, sizeof(*f));

    if (!f) {
        srv_problem(res, 500, "out_of_memory", "Memory is out.");
    } else if (open_reader(req, res, f)) {
        srv_response_header(res, "Cache-Control", "no-store");
        srv_response_header(res, "X-Accel-Buffering", "no"); /* nginx: pass events on at once */
        srv_response_stream(res, "text/event-stream",
                            &(struct srv_stream){.read = read_following, .free = free_following, .user = f});
    } else {
        free_following(f);
    }
}
