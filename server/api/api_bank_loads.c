/*
 * The routes that load and unload banks, and the list of banks. Handlers: they open and charge, order and answer; the
 * loader's thread (bank_loads.c) does what takes long. A POST parks until its load has ended.
 *
 * Who may is asked anew for every request, so a right that is taken away counts from the next SIGHUP on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "els/synth.h"
#include "server/api/submit.h"
#include "server/banks/bank_loads.h"
#include "server/base/clock.h"
#include "server/config/config.h"

static const char suffix[] = ".safetensors";

/* ---- who may ---- */

enum { WHY = 320 };

/* NULL: this client may load and unload banks. Else the problem's code, and a sentence in `why`. */
static const char *why_not(const struct srv_daemon *daemon, const char *key, char why[WHY])
{
    if (!*daemon->config->bank_dir) {
        snprintf(why, WHY, "This daemon loads no banks over HTTP: its setting bank_dir is empty.");
        return "bank_loading_off";
    }
    if (daemon->apikeys && !(srv_apikeys_rights(daemon->apikeys, key) & SRV_RIGHT_BANKS)) {
        snprintf(why, WHY,
                 "The API key \"%s\" has no right to load and unload banks; els key add --right banks makes "
                 "one that has.",
                 key);
        return "right_required";
    }
    if (!daemon->apikeys && !srv_config_is_loopback(daemon->config->bind)) {
        snprintf(why, WHY,
                 "Without API keys only a daemon that other machines cannot reach loads banks; this one "
                 "listens on %.64s.",
                 daemon->config->bind);
        return "right_required";
    }
    return NULL;
}

/* False, and a 403 is in `res`, when the client may not. */
static bool may(struct srv_request *req, struct srv_response *res)
{
    char why[WHY];
    const char *code = why_not(srv_request_daemon(req), srv_request_key(req), why);

    if (code)
        srv_problem(res, 403, code, "%s", why);
    return !code;
}

static json_t *built_in_names(void)
{
    json_t *list = json_array();

    for (int i = 0; i < els_synth_count(); i++)
        els_json_append(&list, json_string(els_synth_name(i)));
    return list;
}

json_t *srv_bank_loads_capabilities(const struct srv_daemon *daemon, const char *key)
{
    char why[WHY];
    const char *code = why_not(daemon, key, why);

    return json_pack("{s:b, s:s?, s:s?, s:o, s:{s:i}}", "allowed", !code, "reason", code ? why : NULL, "bank_dir",
                     code ? NULL : daemon->config->bank_dir, "builtins", built_in_names(), "banks", "max",
                     SRV_BANKS_LOADED);
}

/* ---- the list ---- */

static void list_banks(struct srv_request *req, struct srv_response *res)
{
    struct srv_daemon *daemon = srv_request_daemon(req);
    const char *available = srv_request_query(req, "available");
    json_t *files = NULL, *answer;
    struct els_error err = {0};
    bool more = false;
    int r;

    if (available && strcmp(available, "true") != 0 && strcmp(available, "false") != 0) {
        srv_problem_invalid(res, "?available", "The query argument available is \"%.40s\"; it must be true or false.",
                            available);
        return;
    }
    if (!available || strcmp(available, "false") == 0) {
        srv_response_json(res, 200, json_pack("{s:o}", "banks", srv_banks_list(daemon->banks)));
        return;
    }
    if (!may(req, res))
        return;
    r = srv_bank_dir_list(daemon->config->bank_dir, &files, &more, &err);
    if (r < 0) {
        srv_problem(res, 503, "bank_dir_unreadable", "%s.", *err.message ? err.message : els_status_text(r));
        return;
    }
    answer = json_pack("{s:o, s:o, s:b}", "banks", srv_banks_list(daemon->banks), "available", files,
                       "available_truncated", more);
    srv_response_json(res, 200, answer);
}

/* ---- how a load is told ---- */

static json_t *error_json(const struct srv_bank_answer *answer)
{
    return json_pack("{s:i, s:s, s:s}", "status", answer->status, "code", answer->code, "detail", answer->detail);
}

static json_t *load_json(const struct srv_bank_load *load)
{
    static const char *const words[] = {"waiting", "loading", "loaded", "failed"};
    enum srv_bank_load_status status = (enum srv_bank_load_status)atomic_load(&load->status);
    char url[96], bank[96], ordered_at[SRV_TIME_TEXT];

    snprintf(bank, sizeof(bank), "/v1/banks/%s", load->birth.name);
    snprintf(url, sizeof(url), "/v1/banks/%s/load", load->birth.name);
    srv_time_text(load->birth.loaded_at, ordered_at);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:o}", "name", load->birth.name, "status", words[status],
                     load->birth.origin == SRV_BANK_FILE ? "file" : "builtin", load->birth.source, "ordered_at",
                     ordered_at, "replace", load->replace, "url", url, "bank_url", bank, "error",
                     status == SRV_LOAD_FAILED ? error_json(&load->answer) : json_null());
}

static void answer_problem(struct srv_response *res, const struct srv_bank_answer *answer)
{
    char seconds[16];

    srv_problem(res, answer->status, answer->code, "%s", answer->detail);
    if (answer->pointer)
        srv_problem_error(res, answer->pointer, "%s", answer->detail);
    snprintf(seconds, sizeof(seconds), "%d", answer->retry_after);
    if (answer->retry_after)
        srv_response_header(res, "Retry-After", seconds);
}

/* The bank that is there; it may have been unloaded this moment. */
static void answer_bank(struct srv_request *req, struct srv_response *res, int status)
{
    const char *name = srv_request_arg(req, 0);
    struct srv_banks_entry entry;
    char location[96];

    if (!srv_banks_look(srv_request_daemon(req)->banks, name, &entry)) {
        srv_problem(res, 409, "bank_unloaded", "The bank \"%s\" was loaded, and has been unloaded since.", name);
        return;
    }
    snprintf(location, sizeof(location), "/v1/banks/%s", name);
    srv_response_header(res, "Location", location);
    srv_response_json(res, status, srv_banks_describe(&entry));
    els_bank_unref(entry.bank);
}

static void answer(struct srv_request *req, struct srv_response *res, const struct srv_bank_answer *answer)
{
    if (answer->status < 300)
        answer_bank(req, res, answer->status);
    else
        answer_problem(res, answer);
}

/* ---- POST ---- */

/* The body's text of that name, or NULL when it has none. False: a 422 is in `res`. */
static bool read_text(const json_t *body, struct srv_response *res, const char *name, const char **out)
{
    const json_t *value = json_object_get(body, name);
    char pointer[32];

    *out = json_string_value(value);
    if (!value || json_is_null(value) || (*out && strlen(*out) == json_string_length(value)))
        return true;
    snprintf(pointer, sizeof(pointer), "/%s", name);
    srv_problem_invalid(res, pointer, "%s must be a text without NUL characters.", name);
    return false;
}

/* Fills what the body says; its texts live as long as `body`. */
static bool read_order(const json_t *body, struct srv_response *res, struct srv_bank_order *order,
                       char file[SRV_BANK_NAME + sizeof(suffix)])
{
    static const char *const known[] = {"file", "builtin", "replace"};
    const json_t *replace = json_object_get(body, "replace");
    const char *built_in, *name;
    char pointer[96];
    json_t *value;

    json_object_foreach((json_t *)body, name, value)
    {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
            found |= strcmp(known[i], name) == 0;
        if (!found) {
            snprintf(pointer, sizeof(pointer), "/%.60s", name);
            srv_problem_invalid(res, pointer, "There is no field \"%.60s\"; there are: file, builtin, replace.", name);
            return false;
        }
    }
    if (!read_text(body, res, "file", &order->source) || !read_text(body, res, "builtin", &built_in))
        return false;
    if (order->source && built_in) {
        srv_problem_invalid(res, "/builtin", "There are both file and builtin; a bank comes from one of them.");
        return false;
    }
    if (replace && !json_is_boolean(replace)) {
        srv_problem_invalid(res, "/replace", "replace must be true or false.");
        return false;
    }
    snprintf(file, SRV_BANK_NAME + sizeof(suffix), "%s%s", order->name, suffix);
    order->built_in = built_in != NULL;
    order->replace = json_is_true(replace);
    if (!order->source)
        order->source = built_in ? built_in : file;
    return true;
}

/* What a waiting request holds on to, from the first run of the handler to the last. */
struct waiting {
    struct srv_bank_load *load;
    struct srv_waker *waker; /* NULL: it does not wait */
    int64_t until;           /* monotonic ms */
    bool parked;
};

static void free_waiting(void *user)
{
    struct waiting *w = user;

    if (w->waker)
        srv_waiters_remove(&w->load->watchers, w->waker);
    srv_waker_unref(w->waker);
    srv_bank_load_unref(w->load);
    free(w);
}

/* Orders the load. NULL: the answer is in `res`. */
static struct srv_bank_load *begin(struct srv_request *req, struct srv_response *res)
{
    struct srv_bank_order order = {.name = srv_request_arg(req, 0),
                                   .key = srv_request_key(req),
                                   .peer = srv_request_peer(req),
                                   .request = srv_request_id(req)};
    char file[SRV_BANK_NAME + sizeof(suffix)];
    struct srv_bank_load *load = NULL;
    struct srv_bank_answer said;
    json_t *body;

    if (!may(req, res))
        return NULL;
    if (!srv_config_is_bank_name(order.name, strlen(order.name))) {
        srv_problem(res, 422, "invalid_name",
                    "A bank's name has 1 to %d letters, digits, '.', '_' or '-' and begins with a letter or digit.",
                    SRV_BANK_NAME - 1);
        return NULL;
    }
    body = srv_request_json(req, res);
    if (body && read_order(body, res, &order, file)) {
        load = srv_bank_loads_begin(srv_request_daemon(req)->bank_loads, &order, &said);
        if (!load)
            answer(req, res, &said);
    }
    json_decref(body);
    return load;
}

static struct waiting *begin_waiting(struct srv_request *req, struct srv_response *res)
{
    int seconds = srv_patience(req, (int)srv_request_daemon(req)->config->sync_timeout);
    struct waiting *w = els_alloc_array(1, sizeof(*w));
    struct srv_waker *waker = srv_request_waker(req);

    if (!w) {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
        return NULL;
    }
    w->load = begin(req, res);
    if (!w->load) {
        free(w);
        return NULL;
    }
    w->until = srv_monotonic_ms() + (int64_t)seconds * 1000;
    if (seconds > 0 && srv_waiters_add(&w->load->watchers, waker) == 0)
        w->waker = srv_waker_ref(waker); /* without it we do not wait: the load is under way all the same */
    return w;
}

static void post_bank(struct srv_request *req, struct srv_response *res)
{
    struct waiting *w = srv_request_state(req);
    char location[96];

    if (!w)
        w = begin_waiting(req, res);
    if (!w)
        return;
    if (srv_bank_load_ended(w->load)) {
        answer(req, res, &w->load->answer);
    } else if (w->waker && srv_monotonic_ms() < w->until && !srv_request_timed_out(req)) {
        w->parked = true;
        srv_response_park(req, res, (int)(w->until - srv_monotonic_ms()), w, free_waiting);
        return;
    } else {
        snprintf(location, sizeof(location), "/v1/banks/%s/load", w->load->birth.name);
        srv_response_header(res, "Location", location);
        srv_response_json(res, 202, load_json(w->load));
    }
    if (!w->parked)
        free_waiting(w); /* else the request frees it */
}

/* ---- the others ---- */

static void get_load(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_arg(req, 0);
    struct srv_bank_load *load;

    if (!may(req, res))
        return;
    load = srv_bank_loads_find(srv_request_daemon(req)->bank_loads, name);
    if (load)
        srv_response_json(res, 200, load_json(load));
    else
        srv_problem(res, 404, "load_not_found", "No load of a bank \"%.80s\" is remembered.", name);
    srv_bank_load_unref(load);
}

static void delete_bank(struct srv_request *req, struct srv_response *res)
{
    const char *name = srv_request_arg(req, 0);
    struct srv_bank_answer said;
    bool in_use;

    if (!may(req, res))
        return;
    srv_bank_loads_unload(srv_request_daemon(req)->bank_loads, name, &in_use, &said);
    if (said.status == 200)
        srv_response_json(res, 200, json_pack("{s:s, s:b, s:b}", "name", name, "unloaded", 1, "in_use", in_use));
    else
        answer_problem(res, &said);
}

const struct srv_route srv_bank_loads_routes[] = {
    {"GET", "/v1/banks", list_banks, 0},
    {"POST", "/v1/banks/{name}", post_bank, 0},
    {"DELETE", "/v1/banks/{name}", delete_bank, 0},
    {"GET", "/v1/banks/{name}/load", get_load, 0},
    {0},
};
