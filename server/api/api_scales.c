/*
 * GET /v1/scales and GET, PUT, DELETE /v1/scales/{name}: the published calibrations, which nobody can change, and those
 * that people saved, in one list. Each API key has
 * names of its own. Handlers run in the handler pool; the store keeps what is saved.
 */
#include <ctype.h>
#include <string.h>

#include "core/base/json.h"
#include "server/api/answer_room.h"
#include "server/base/clock.h"
#include "server/base/json_body.h"
#include "server/jobs/job_service.h"
#include "server/params/params_fields.h"
#include "server/params/saved_scales.h"

enum {
    LIST_BYTES = 1 << 20, /* of schedules on a page, but for its last */
    SAVED = 2 << 10,      /* memory of a schedule's name and time, and as text */
    PRESETS = 256 << 10,  /* memory of all presets */
};

/* ---- names ---- */

bool srv_saved_name_is_good(const char *name)
{
    size_t n = strlen(name);

    if (n < 1 || n >= SRV_SCALES_NAME_SIZE || !isalnum((unsigned char)*name))
        return false;
    for (; *name; name++)
        if (!isascii((unsigned char)*name) || (!isalnum((unsigned char)*name) && !strchr("._-", *name)))
            return false;
    return true;
}

static int find_preset(const char *name)
{
    const char *preset;

    for (int i = 0; (preset = els_scales_preset_name(i)); i++)
        if (strcmp(name, preset) == 0)
            return i;
    return -1;
}

bool srv_saved_name_is_preset(const char *name)
{
    return find_preset(name) >= 0 || strcmp(name, "auto") == 0;
}

static struct srv_store *store_of(const struct srv_request *req)
{
    return srv_request_daemon(req)->jobs->store;
}

/* ---- as JSON ---- */

json_t *srv_scales_json(const struct els_scales *s)
{
    json_t *t = json_array(), *p = json_array(), *json = NULL;
    int status = t && p ? 0 : -1;

    for (int i = 0; i < s->n && status == 0; i++)
        status = json_array_append_new(t, json_real(s->t[i])) || json_array_append_new(p, json_integer(s->p[i]));
    if (status == 0)
        json = json_pack("{s:O, s:O}", "t", t, "p", p);
    json_decref(t);
    json_decref(p);
    return json;
}

static json_t *preset_json(int i)
{
    struct els_scales scales = {0};
    json_t *json = NULL;

    if (els_scales_from_list(&scales, ELS_PRESET_LENGTH, els_scales_preset(i), NULL) == 0)
        json = srv_scales_json(&scales);
    if (json && (json_object_set_new(json, "name", json_string(els_scales_preset_name(i))) < 0 ||
                 json_object_set_new(json, "preset", json_true()) < 0 ||
                 json_object_set_new(json, "saved_at", json_null()) < 0)) {
        json_decref(json);
        json = NULL;
    }
    els_scales_deinit(&scales);
    return json;
}

static json_t *saved_json(const struct srv_saved_scales *s)
{
    json_t *json = srv_json_stored(s->scales);
    char time[SRV_TIME_TEXT];

    if (json && (json_object_set_new(json, "name", json_string(s->name)) < 0 ||
                 json_object_set_new(json, "preset", json_false()) < 0 ||
                 json_object_set_new(json, "saved_at", json_string(srv_time_text(s->saved, time))) < 0)) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

/* ---- looking ---- */

static void answer_json(struct srv_response *res, int status, json_t *json)
{
    if (json)
        srv_response_json(res, status, json);
    else
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
}

static void store_problem(struct srv_response *res, int status, const struct els_error *err, const char *name)
{
    if (status == ELS_ENOENT)
        srv_problem(res, 404, "scales_not_found", "There are no scales named \"%.80s\".", name);
    else if (status == ELS_ELIMIT && strcmp(err->field, "scales") == 0)
        srv_problem(res, 413, "scales_too_large", "%s", err->message);
    else if (srv_store_is_damage(err))
        srv_problem(res, 500, "damaged", "%s", err->message);
    else if (status == ELS_ELIMIT)
        srv_problem(res, 409, "too_many_scales", "%s", err->message);
    else
        srv_problem(res, 500, "store_failed", "%s", err->message[0] ? err->message : els_status_text(status));
}

/* A page of the list. */
struct page {
    struct srv_response *res;
    json_t *list;
    char last[SRV_SCALES_NAME_SIZE]; /* the name of the last that was saved */
    int64_t room;
    size_t bytes; /* that the page may still take; its first takes what it takes */
    bool more;
    bool refused; /* the answer's charge: the refusal is in `res` */
    size_t charged;
};

static int add_saved(void *user, const struct srv_saved_scales *s)
{
    struct page *page = user;
    size_t size = strlen(s->scales);

    if (page->room-- == 0 || (size > page->bytes && *page->last)) {
        page->more = true;
        return 1;
    }
    page->charged += SAVED + srv_room_stored(s->scales);
    page->refused = !srv_response_charge(page->res, page->charged);
    if (page->refused)
        return 1;
    page->bytes -= size < page->bytes ? size : page->bytes;
    snprintf(page->last, sizeof(page->last), "%s", s->name);
    return json_array_append_new(page->list, saved_json(s));
}

/* The presets come first, on the first page. */
static void list_scales(struct srv_request *req, struct srv_response *res)
{
    const char *cursor = srv_request_query(req, "cursor");
    struct page page = {.res = res, .list = json_array(), .bytes = LIST_BYTES, .charged = PRESETS};
    struct els_error err = {0};
    int status = page.list ? 0 : ELS_ENOMEM;

    if (!srv_request_query_int(req, res, "limit", 1, SRV_SCALES_MOST, SRV_SCALES_MOST, &page.room))
        goto out;
    for (int i = 0; status == 0 && !cursor && i < els_scales_num_presets(); i++)
        status = json_array_append_new(page.list, preset_json(i)) < 0 ? ELS_ENOMEM : 0;
    if (status == 0)
        status = srv_store_list_scales(store_of(req), srv_request_key(req), cursor ? cursor : "", add_saved, &page, &err);
    if (page.refused)
        goto out;
    if (status == 0 || (status == ELS_ECANCELLED && page.more))
        answer_json(res, 200, json_pack("{s:O, s:s?}", "scales", page.list, "next_cursor",
                                        page.more ? page.last : NULL));
    else
        store_problem(res, status == ELS_ECANCELLED ? ELS_ENOMEM : status, &err, "");
out:
    json_decref(page.list);
}

static void get_scales(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_arg(req, 0);
    struct srv_saved_scales saved = {0};
    struct els_error err = {0};
    int preset = find_preset(name), status;

    if (preset >= 0) {
        answer_json(res, 200, preset_json(preset));
        return;
    }
    status = srv_store_get_scales(store_of(req), srv_request_key(req), name, &saved, &err);
    if (status == 0)
        answer_json(res, 200, saved_json(&saved));
    else
        store_problem(res, status, &err, name);
    srv_saved_scales_deinit(&saved);
}

/* ---- changing ---- */

/* May the name be saved under, or removed? False: the problem is in `res`. */
static bool name_is_free(struct srv_response *res, const char *name)
{
    if (srv_saved_name_is_preset(name))
        srv_problem(res, 409, "preset_name", "\"%s\" is a preset's name; choose another.", name);
    else if (!srv_saved_name_is_good(name))
        srv_problem(res, 422, "invalid_name", "A name must have %s.", SRV_SAVED_NAME_RULE);
    else
        return true;
    return false;
}

/* The body's scales, canonical, as JSON text (free()). NULL: the problem is in `res`. */
static char *read_scales(struct srv_request *req, struct srv_response *res)
{
    json_t *body = srv_request_json(req, res), *json = NULL;
    struct els_scales scales = {0};
    struct srv_faults faults = {0};
    char *text = NULL;

    if (!body)
        return NULL;
    srv_read_pairs(&faults, "", body, &scales);
    if (faults.count > 0) {
        srv_faults_answer(&faults, res);
    } else {
        json = srv_scales_json(&scales);
        text = els_json_text(json, JSON_COMPACT);
        if (!text)
            srv_problem(res, 500, "out_of_memory", "Out of memory.");
    }
    els_scales_deinit(&scales);
    json_decref(json);
    json_decref(body);
    return text;
}

static void put_scales(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_arg(req, 0);
    struct srv_saved_scales before = {0}, now = {0};
    _cleanup_(els_freep) char *text = name_is_free(res, name) ? read_scales(req, res) : NULL;
    struct els_error err = {0};
    int known, status;

    if (!text)
        return;
    known = srv_store_get_scales(store_of(req), srv_request_key(req), name, &before, NULL);
    status = srv_store_save_scales(store_of(req), srv_request_key(req), name, text, srv_now_ms(), &err);
    if (status == 0)
        status = srv_store_get_scales(store_of(req), srv_request_key(req), name, &now, &err);
    if (status == 0)
        answer_json(res, known == 0 ? 200 : 201, saved_json(&now));
    else
        store_problem(res, status, &err, name);
    srv_saved_scales_deinit(&before);
    srv_saved_scales_deinit(&now);
}

static void delete_scales(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_arg(req, 0);
    struct els_error err = {0};
    int status;

    if (srv_saved_name_is_preset(name)) {
        srv_problem(res, 409, "preset_name", "\"%s\" is a preset; it cannot be deleted.", name);
        return;
    }
    status = srv_store_remove_scales(store_of(req), srv_request_key(req), name, &err);
    if (status == 0)
        answer_json(res, 200, json_pack("{s:s, s:b}", "name", name, "deleted", 1));
    else
        store_problem(res, status, &err, name);
}

const struct srv_route srv_scales_routes[] = {
    {"GET", "/v1/scales", list_scales, SRV_ROUTE_COSTLY},
    {"GET", "/v1/scales/{name}", get_scales, SRV_ROUTE_COSTLY},
    {"PUT", "/v1/scales/{name}", put_scales, SRV_ROUTE_COSTLY},
    {"DELETE", "/v1/scales/{name}", delete_scales, 0},
    {0},
};
