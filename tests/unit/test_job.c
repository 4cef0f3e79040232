/*
 * One job: its transitions, what a snapshot says on the way, and its JSON.
 */
#include <string.h>

#include "server/jobs/job.h"
#include "unit.h"

static struct srv_job *make(struct srv_banks **banks)
{
    static char name[] = "two-tone";
    struct srv_config_bank list[] = {{name, name}};
    struct srv_config config = {.banks = list, .num_banks = 1, .max_num_images = 4, .max_num_inference_steps = 50,
                                .max_result_bytes = 1 << 20};
    json_t *body = json_loads("{\"num_images\":2,\"seed\":5,\"num_inference_steps\":5,\"scales\":3}", 0, NULL);
    struct srv_params_source source = {.kind = &srv_job_type_sample, .limits = srv_limits_of(&config), .body = body};
    struct srv_params *params = NULL;
    struct srv_job *job = NULL;
    struct srv_faults faults;
    struct els_error err = {0};

    ck_assert_msg(srv_banks_new(banks, &config, NULL, NULL, NULL, &err) == 0, "%s", err.message);
    source.banks = *banks;
    ck_assert_msg(srv_params_new(&params, &source, &faults) == 0, "%s", faults.fault[0].detail);
    ck_assert_int_eq(srv_job_new(&job, params, "ann", "192.0.2.1"), 0);
    json_decref(body);
    return job;
}

/* The text at a path of member names, as JSON. */
static void expect(const struct srv_job_record *record, const char *name, const char *expected)
{
    json_t *json = srv_job_record_json(record, SRV_RECORD_WHOLE);
    char *text = json_dumps(json_object_get(json, name), JSON_ENCODE_ANY | JSON_COMPACT);

    ck_assert_str_eq(text, expected);
    free(text);
    json_decref(json);
}

START_TEST(test_transitions)
{
    for (int from = 0; from < SRV_STATUS_COUNT; from++) {
        for (int to = 0; to < SRV_STATUS_COUNT; to++) {
            bool may = srv_job_may((enum srv_status)from, (enum srv_status)to);

            if (srv_status_ended((enum srv_status)from) || to == SRV_QUEUED || to == from)
                ck_assert(!may);
            else
                ck_assert_int_eq(may, !(from == SRV_QUEUED && to == SRV_SUCCEEDED));
        }
    }
}
END_TEST

START_TEST(test_status_names)
{
    enum srv_status parsed;

    for (int i = 0; i < SRV_STATUS_COUNT; i++) {
        ck_assert_int_eq(srv_status_parse(srv_status_name((enum srv_status)i), &parsed), 0);
        ck_assert_int_eq(parsed, i);
    }
    ck_assert_int_eq(srv_status_parse("done", &parsed), ELS_ENOENT);
}
END_TEST

START_TEST(test_a_life)
{
    struct srv_banks *banks = NULL;
    struct srv_job *job = make(&banks);
    struct srv_job_record record = {0};
    struct srv_outcome outcome = {.status = SRV_SUCCEEDED, .finished = 1767225845678, .steps_done = 4,
                                  .result = "{\"images\":[]}", .engine = "{\"kernel\":\"c\"}"};

    ck_assert_uint_eq(strspn(job->record.id, "0123456789abcdef"), SRV_ID_SIZE - 1);
    ck_assert_int_eq(srv_job_snapshot(job, &record), 0);
    expect(&record, "status", "\"queued\"");
    expect(&record, "seeds", "[5,6]");
    expect(&record, "result", "null");
    expect(&record, "started_at", "null");
    expect(&record, "progress", "{\"image\":0,\"step\":0,\"steps\":4,\"eta_seconds\":null}");
    srv_job_record_deinit(&record);

    srv_job_start(job, 1767225600000);
    srv_job_progress(job, 3, 0.5, true);
    ck_assert_int_eq(srv_job_snapshot(job, &record), 0);
    expect(&record, "status", "\"running\"");
    expect(&record, "started_at", "\"2026-01-01T00:00:00.000Z\"");
    ck_assert_int_eq(record.progress.step, 3);
    ck_assert(record.progress.eta_seconds >= 0);
    srv_job_record_deinit(&record);

    outcome.last_event = srv_job_last_event(job);
    srv_job_end(job, &outcome);
    ck_assert_uint_eq(srv_events_last(job->events), outcome.last_event);
    ck_assert_int_eq(srv_job_snapshot(job, &record), 0);
    expect(&record, "status", "\"succeeded\"");
    expect(&record, "finished_at", "\"2026-01-01T00:04:05.678Z\"");
    expect(&record, "result", "{\"images\":[]}");
    expect(&record, "engine", "{\"kernel\":\"c\"}");
    expect(&record, "progress", "{\"image\":2,\"step\":4,\"steps\":4,\"eta_seconds\":0.0}");
    srv_job_record_deinit(&record);
    srv_job_unref(job);
    srv_banks_free(banks);
}
END_TEST

START_TEST(test_progress_is_throttled)
{
    struct srv_banks *banks = NULL;
    struct srv_job *job = make(&banks);
    uint64_t before;

    srv_job_start(job, 1);
    srv_job_progress(job, 1, 0, true);
    before = srv_events_last(job->events);
    srv_job_progress(job, 1, 0.1, true);
    ck_assert_uint_eq(srv_events_last(job->events), before + 1);
    for (int i = 0; i < 10000; i++)
        srv_job_progress(job, 1, 0.2, false);
    ck_assert_uint_lt(srv_events_last(job->events), before + 1 + 10000); /* not each of them is told */
    srv_job_unref(job);
    srv_banks_free(banks);
}
END_TEST

START_TEST(test_brief_names_uploaded_noise)
{
    struct srv_job_record record = {.kind = "sample", .num_images = 1,
                                .params = (char *)"{\"noise\":{\"npy_base64\":\"AAAA\"},\"seed\":1}"};
    json_t *json = srv_job_record_json(&record, SRV_RECORD_BRIEF);

    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "params"), "noise")), "uploaded");
    ck_assert_ptr_null(json_object_get(json, "result"));
    json_decref(json);
    expect(&record, "params", "{\"noise\":{\"npy_base64\":\"AAAA\"},\"seed\":1}");
}
END_TEST

UNIT_MAIN("job", test_transitions, test_status_names, test_a_life, test_progress_is_throttled,
          test_brief_names_uploaded_noise)
