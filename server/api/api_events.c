/*
 * GET /v1/jobs/{id}/events: opens a stream over a job's ring of events. The handler runs in the handler pool; the stream it
 * leaves behind is read on an HTTP thread and only copies memory (events.c).
 *
 * A job that has ended is no longer live, and its events are gone but for the last, which is made again from the
 * store, with the number it had. So a client that was cut off learns the end exactly once more.
 *
 * A stream is charged when it opens (class streams), for as long as it is open and however slowly it is read: for
 * itself, for the record that it begins with, and for the ring, which outlives its job as long as somebody reads. Making
 * the record is charged as an answer, before.
 */
#include "server/api/api_events.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/json.h"
#include "server/api/answer_room.h"
#include "server/api/results.h"
#include "server/jobs/job_service.h"

enum {
    STREAM = 64 << 10, /* its request, its place in the list of watchers, and libmicrohttpd's block */
    EVENT = 1024,      /* an event without its picture */
};

/* What a stream holds on to. */
struct following {
    struct srv_charge charge;
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
        srv_waiters_remove(&f->job->watchers, f->waker);
    srv_waker_unref(f->waker);
    srv_events_reader_free(f->reader);
    srv_job_unref(f->job);
    srv_charge_give(&f->charge);
    free(f);
}

/* The most that the ring of such a job comes to: previews, as base64, and its end. */
static size_t ring_room(const struct srv_job_record *record)
{
    size_t row = (size_t)record->shape.w * (size_t)record->shape.c + 1, raw = row * (size_t)record->shape.h;
    size_t all = SRV_EVENTS_MOST * ((raw + raw / 64) / 3 * 4 + EVENT) + SRV_EVENTS_RECORD;

    return all < SRV_EVENTS_MOST_BYTES ? all : SRV_EVENTS_MOST_BYTES;
}

/* Charges a stream that holds so much, and an answer for what making its record takes. False: the refusal is in `res`. */
static bool charge(struct following *f, struct srv_request *req, struct srv_response *res,
                   const struct srv_job_record *record, size_t held)
{
    struct srv_accounts *accounts = srv_request_daemon(req)->accounts;
    struct srv_payer *payer = srv_payer_new(accounts, srv_request_key(req), srv_request_peer(req));
    struct srv_refusal why;
    int status;

    if (!payer) {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
        return false;
    }
    status = srv_charge_take(&f->charge, payer, SRV_CHARGE_STREAMS, (int64_t)(STREAM + held), &why);
    srv_payer_unref(payer);
    if (status < 0)
        srv_problem_refused(res, &why);
    return status == 0 && srv_response_charge(res, srv_room_record(record, SRV_RECORD_WHOLE));
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

static char *event_text(const struct srv_job_record *record)
{
    json_t *json = srv_job_record_event(record);
    char *text = els_json_text(json, JSON_COMPACT);

    json_decref(json);
    return text;
}

enum { REFUSED = 1 }; /* the answer is in `res` */

/* A snapshot first, unless the client can go on where it was. */
static int open_live(struct following *f, struct srv_request *req, struct srv_response *res)
{
    struct srv_events *events = f->job->events;
    uint64_t after = 0;
    bool resumes = last_event_id(req, &after) && srv_events_resumable(events, after);
    struct srv_job_record record = {0};
    char *snapshot = NULL;
    int status;

    if (!resumes)
        /* Taken before the snapshot: what happens in between is told twice rather than not at all. */
        after = srv_events_fresh(events);
    status = srv_job_snapshot(f->job, &record);
    if (status == 0 && !charge(f, req, res, &record, ring_room(&record) + srv_job_record_event_bytes(&record)))
        status = REFUSED;
    if (status == 0 && !resumes) {
        snapshot = event_text(&record);
        status = snapshot ? 0 : ELS_ENOMEM;
    }
    if (status == 0)
        status = srv_events_reader_new(&f->reader, events, after, snapshot);
    free(snapshot);
    srv_job_record_deinit(&record);
    return status;
}

static int open_ended(struct following *f, struct srv_request *req, struct srv_response *res,
                      const struct srv_job_record *record)
{
    struct srv_events *events = NULL;
    int status = ELS_ENOMEM;
    char *text;

    /* The record is in it twice: as it is, and as the end. */
    if (!charge(f, req, res, record, 2 * srv_job_record_event_bytes(record)))
        return REFUSED;
    text = event_text(record);
    if (text)
        status = srv_events_new_ended(&events, record->last_event, srv_status_name(record->status), text);
    if (status == 0)
        status = srv_events_reader_new(&f->reader, events, srv_events_fresh(events), text);
    srv_events_unref(events);
    free(text);
    return status;
}

/* Finds the job and opens a reader. False: the problem is in `res`. */
static bool open_reader(struct srv_request *req, struct srv_response *res, struct following *f)
{
    const char *id = srv_request_arg(req, 0);
    struct srv_jobs *jobs = srv_request_daemon(req)->jobs;
    struct srv_job_record record = {0};
    int status;

    f->job = srv_jobs_live_for(jobs, id, srv_request_key(req));
    if (f->job) {
        f->waker = srv_waker_ref(srv_request_waker(req));
        status = srv_waiters_add(&f->job->watchers, f->waker);
        if (status == 0)
            status = open_live(f, req, res);
    } else {
        if (!srv_results_find(req, res, id, &record))
            return false;
        status = open_ended(f, req, res, &record);
        srv_job_record_deinit(&record);
    }
    if (status < 0)
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    return status == 0;
}

void srv_get_events(struct srv_request *req, struct srv_response *res)
{
    struct following *f = els_alloc_array(1, sizeof(*f));

    if (!f) {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    } else if (open_reader(req, res, f)) {
        srv_response_charge(res, 0); /* the record has been made; less is never refused */
        srv_response_header(res, "Cache-Control", "no-store");
        srv_response_header(res, "X-Accel-Buffering", "no"); /* nginx: pass events on at once */
        srv_response_stream(res, "text/event-stream",
                            &(struct srv_stream){.read = read_following, .free = free_following, .user = f});
    } else {
        free_following(f);
    }
}
