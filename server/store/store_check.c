/*
 * What a row of the store must be. A file that somebody has edited, or that a disk has damaged in places that SQLite does
 * not look at, can hold any value in any column. Sizes follow from these numbers: so every one is checked against its
 * range, and against the others, before anything else sees it. What is wrong is one sentence about one job; the others are
 * served as before.
 *
 * Called under the connection's lock. The list of known damage has a lock of its own, so that each is told once.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "els/engine.h"
#include "els/sampler.h"
#include "els/scale.h"
#include "server/base/job_type.h"
#include "server/store/store_db.h"

/* The field of an els_error about damage. */
#define DAMAGED "damaged"

enum {
    MOST_BLOB = 1000 * 1000 * 1000, /* SQLite takes no larger one */
    MOST_DEPTH = 64,                /* of JSON */
};

int srv_db_damage(struct els_error *err, const char *format, ...)
{
    char text[360];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return els_fail(err, ELS_EFORMAT, DAMAGED, "What the store holds of this job is damaged: %s.", text);
}

bool srv_store_is_damage(const struct els_error *err)
{
    return err->code == ELS_EFORMAT && strcmp(err->field, DAMAGED) == 0;
}

void srv_store_on_damage(struct srv_store *store, void (*damaged)(void *user, const char *id, const char *why),
                         void *user)
{
    store->damaged = damaged;
    store->damaged_user = user;
}

bool srv_db_note_damage(struct srv_store *store, int64_t sequence, const char *id, int status,
                        const struct els_error *err)
{
    bool known = false;

    if (status != ELS_EFORMAT || !err || !srv_store_is_damage(err))
        return false;
    /* What is not of a job is known by its name. */
    for (const char *c = id; sequence <= 0 && *c; c++)
        sequence = INT64_MIN | (int64_t)(((uint64_t)sequence * 31 + (unsigned char)*c) & INT64_MAX);
    pthread_mutex_lock(&store->damage_lock);
    for (size_t i = 0; i < SRV_DB_KNOWN_DAMAGE && sequence != 0; i++)
        known = known || store->known_damage[i] == sequence;
    if (!known)
        store->known_damage[store->num_known_damage++ % SRV_DB_KNOWN_DAMAGE] = sequence;
    pthread_mutex_unlock(&store->damage_lock);
    if (!known && store->damaged)
        store->damaged(store->damaged_user, id, err->message);
    return true;
}

/* ---- JSON ---- */

struct scan {
    const unsigned char *at, *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\n\r", *s->at) && *s->at)
        s->at++;
}

static bool take(struct scan *s, int c)
{
    bool there = s->at < s->end && *s->at == c;

    s->at += there;
    return there;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    bool there = (size_t)(s->end - s->at) >= n && memcmp(s->at, word, n) == 0;

    s->at += there ? n : 0;
    return there;
}

static bool take_digits(struct scan *s)
{
    const unsigned char *began = s->at;

    while (s->at < s->end && isdigit(*s->at))
        s->at++;
    return s->at > began;
}

/* jansson refuses what does not fit into 64 bits, or into a double. The text ends with a NUL. */
static bool number_fits(const unsigned char *text, bool real)
{
    errno = 0;
    if (real)
        return fabs(strtod((const char *)text, NULL)) < HUGE_VAL;
    (void)strtoll((const char *)text, NULL, 10);
    return errno == 0;
}

static bool take_number(struct scan *s)
{
    const unsigned char *began = s->at;
    bool real = false;

    take(s, '-');
    if (!take(s, '0') && !take_digits(s))
        return false;
    if (take(s, '.')) {
        real = true;
        if (!take_digits(s))
            return false;
    }
    if (take(s, 'e') || take(s, 'E')) {
        real = true;
        if (!take(s, '+'))
            take(s, '-');
        if (!take_digits(s))
            return false;
    }
    return number_fits(began, real);
}

/* The rest of a character that began with `lead`, without overlong forms and surrogates. */
static bool take_utf8(struct scan *s, unsigned lead)
{
    int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    unsigned code = lead & (0x3f >> more);

    if (lead < 0xc2 || lead > 0xf4)
        return false;
    for (int i = 0; i < more; i++) {
        if (s->at == s->end || (*s->at & 0xc0) != 0x80)
            return false;
        code = code << 6 | (*s->at++ & 0x3f);
    }
    return code >= (more == 1 ? 0x80u : more == 2 ? 0x800u : 0x10000u) && code <= 0x10ffff &&
           !(code >= 0xd800 && code <= 0xdfff);
}

/* The four digits after \u; −1. */
static int take_hex(struct scan *s)
{
    int code = 0;

    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *digit;

        if (s->at == s->end || !*s->at || !(digit = strchr(digits, tolower(*s->at))))
            return -1;
        code = code * 16 + (int)(digit - digits);
        s->at++;
    }
    return code;
}

static bool take_escape(struct scan *s)
{
    int code;

    if (!take(s, 'u'))
        return s->at < s->end && *s->at && strchr("\"\\/bfnrt", *s->at++);
    code = take_hex(s);
    if (code < 0xd800 || code > 0xdfff)
        return code > 0;
    if (code >= 0xdc00 || !take_word(s, "\\u"))
        return false;
    code = take_hex(s);
    return code >= 0xdc00 && code <= 0xdfff;
}

static bool take_string(struct scan *s)
{
    if (!take(s, '"'))
        return false;
    while (s->at < s->end && *s->at != '"') {
        unsigned c = *s->at++;

        if (c < ' ' || (c == '\\' && !take_escape(s)) || (c >= 0x80 && !take_utf8(s, c)))
            return false;
    }
    return take(s, '"');
}

static bool take_scalar(struct scan *s)
{
    if (s->at < s->end && *s->at == '"')
        return take_string(s);
    return take_word(s, "true") || take_word(s, "false") || take_word(s, "null") || take_number(s);
}

/* Before a value inside `inside`: for an object that is its name. */
static bool take_name(struct scan *s, char inside)
{
    skip_space(s);
    if (inside != '{')
        return true;
    if (!take_string(s))
        return false;
    skip_space(s);
    if (!take(s, ':'))
        return false;
    skip_space(s);
    return true;
}

/* A value has ended: closes what ends with it. True when another follows, or all is closed (*depth is 0). */
static bool take_ends(struct scan *s, const char *inside, int *depth)
{
    while (*depth > 0) {
        skip_space(s);
        if (take(s, ','))
            return true;
        if (!take(s, inside[*depth - 1] == '{' ? '}' : ']'))
            return false;
        --*depth;
    }
    return true;
}

bool srv_db_is_json(const char *text, size_t size)
{
    struct scan s = {(const unsigned char *)text, (const unsigned char *)text + size};
    char inside[MOST_DEPTH];
    int depth = 0;

    skip_space(&s);
    do {
        int opening;

        if (depth > 0 && !take_name(&s, inside[depth - 1]))
            return false;
        opening = s.at < s.end && (*s.at == '{' || *s.at == '[') ? *s.at++ : 0;
        if (opening) {
            if (depth == MOST_DEPTH)
                return false;
            inside[depth++] = (char)opening;
            skip_space(&s);
            if (!take(&s, opening == '{' ? '}' : ']'))
                continue; /* its first value */
            depth--;
        } else if (!take_scalar(&s)) {
            return false;
        }
        if (!take_ends(&s, inside, &depth))
            return false;
    } while (depth > 0);
    skip_space(&s);
    return s.at == s.end;
}

/* ---- columns ---- */

/* A row that is being read. `status` is the first failure. */
struct row {
    sqlite3_stmt *s;
    struct els_error *err;
    int status;
};

static int64_t read_int(struct row *r, int i, const char *name, int64_t least, int64_t most)
{
    int64_t value = sqlite3_column_int64(r->s, i);

    if (r->status < 0)
        return least;
    if (sqlite3_column_type(r->s, i) != SQLITE_INTEGER)
        r->status = srv_db_damage(r->err, "%s is not a whole number", name);
    else if (value < least || value > most)
        r->status = srv_db_damage(r->err, "%s is %lld; it must be from %lld to %lld", name, (long long)value,
                                  (long long)least, (long long)most);
    return r->status < 0 ? least : value;
}

/* Text of at most `most` bytes, borrowed until the row is left. NULL: it is SQL's NULL, or damaged, or out of memory. */
static const char *read_text(struct row *r, int i, const char *name, size_t most, size_t *size)
{
    int type = sqlite3_column_type(r->s, i);
    const char *text = NULL;

    *size = 0;
    if (r->status < 0 || type == SQLITE_NULL)
        return NULL;
    if (type == SQLITE_TEXT)
        text = (const char *)sqlite3_column_text(r->s, i);
    if (text)
        *size = (size_t)sqlite3_column_bytes(r->s, i);
    if (type != SQLITE_TEXT)
        r->status = srv_db_damage(r->err, "%s is not text", name);
    else if (!text)
        r->status = els_fail(r->err, ELS_ENOMEM, NULL, "Out of memory.");
    else if (*size > most)
        r->status = srv_db_damage(r->err, "%s has %zu bytes; at most %zu are possible", name, *size, most);
    else if (memchr(text, '\0', *size))
        r->status = srv_db_damage(r->err, "%s has a NUL byte", name);
    return r->status < 0 ? NULL : text;
}

/* A short text that must be there. */
static void copy_text(struct row *r, int i, const char *name, char *out, size_t room)
{
    size_t size;
    const char *text = read_text(r, i, name, room - 1, &size);

    if (!text && r->status == 0)
        r->status = srv_db_damage(r->err, "%s is missing", name);
    snprintf(out, room, "%s", text ? text : "");
}

static void dup_json(struct row *r, int i, const char *name, char **out)
{
    size_t size;
    const char *text = read_text(r, i, name, MOST_BLOB, &size);

    if (!text)
        return;
    if (!srv_db_is_json(text, size)) {
        r->status = srv_db_damage(r->err, "%s is not JSON", name);
        return;
    }
    *out = strdup(text);
    if (!*out)
        r->status = els_fail(r->err, ELS_ENOMEM, NULL, "Out of memory.");
}

static void check_digits(struct row *r, const char *name, const char *text, size_t digits)
{
    size_t n = strspn(text, "0123456789abcdef");

    if (r->status == 0 && (n != digits || text[n]))
        r->status = srv_db_damage(r->err, "%s is not %zu lower-case hex digits", name, digits);
}

/* ---- a job ---- */

static const struct srv_job_type *check_kind(struct row *r, const char *name)
{
    const struct srv_job_type *kind = r->status == 0 ? srv_job_type_find(name) : NULL;

    if (r->status == 0 && !kind)
        r->status = srv_db_damage(r->err, "there is no kind of job \"%s\"", name);
    return kind;
}

/* Each is in its range; together they may still make more than the store can hold. */
static void check_sizes(struct row *r, const struct srv_job_type *kind, const struct srv_extent *e, unsigned outputs)
{
    uint64_t all = 0;

    for (int i = 0; r->status == 0 && kind->outputs[i].word; i++) {
        /* At most 4·512² values, 10^4 steps and 64 candidates of 4 numbers: no overflow. */
        uint64_t bytes = sizeof(float) * (uint64_t)srv_output_values(&kind->outputs[i], e);

        if (!kind->outputs[i].always && !(outputs & 1u << i))
            continue;
        if (bytes > MOST_BLOB)
            r->status = srv_db_damage(r->err, "%s of each image would have %llu bytes", kind->outputs[i].tensor,
                                      (unsigned long long)bytes);
        all += bytes * (uint64_t)e->num_images;
        if (r->status == 0 && all > INT64_MAX / 2)
            r->status = srv_db_damage(r->err, "its results would have %llu bytes", (unsigned long long)all);
    }
}

static unsigned read_extent(struct row *r, int i, const struct srv_job_type *kind, struct srv_extent *e)
{
    int rows = 0;
    unsigned outputs;

    while (kind && kind->outputs[rows].word)
        rows++;
    e->shape.c = (int)read_int(r, i, "channels", 1, ELS_MAX_CHANNELS);
    e->shape.h = (int)read_int(r, i + 1, "height", 1, ELS_MAX_SIDE);
    e->shape.w = (int)read_int(r, i + 2, "width", 1, ELS_MAX_SIDE);
    e->num_images = read_int(r, i + 3, "num_images", 1, ELS_MAX_NUM_IMAGES);
    e->num_steps = (int)read_int(r, i + 4, "num_steps", 1, ELS_MAX_INFERENCE_STEPS);
    e->depth = (int)read_int(r, i + 5, "depth", 1, ELS_MAX_P_COUNT);
    outputs = (unsigned)read_int(r, i + 6, "outputs", 0, ((int64_t)1 << rows) - 1);
    if (r->status == 0)
        check_sizes(r, kind, e, outputs);
    return outputs;
}

int srv_db_extent(sqlite3_stmt *s, int first, const char *name, size_t *values, struct els_error *err)
{
    struct row r = {s, err, 0};
    struct srv_extent e = {0};
    char kind_name[16];
    const struct srv_job_type *kind;

    copy_text(&r, first + 1, "kind", kind_name, sizeof(kind_name));
    kind = check_kind(&r, kind_name);
    if (r.status == 0)
        read_extent(&r, first + 2, kind, &e);
    if (r.status < 0)
        return r.status;
    for (int i = 0; kind->outputs[i].word; i++) {
        if (strcmp(kind->outputs[i].tensor, name) == 0) {
            *values = srv_output_values(&kind->outputs[i], &e);
            return 0;
        }
    }
    return els_fail(err, ELS_ENOENT, NULL, "There is no tensor \"%s\".", name);
}

/* The row's numbers against each other. */
static void check_life(struct row *r, const struct srv_job_record *record)
{
    bool ended = srv_status_ended(record->status);

    if (r->status < 0)
        return;
    if (ended != (record->finished > 0))
        r->status = srv_db_damage(r->err, "its status is %s, and it finished at %lld", srv_status_name(record->status),
                                  (long long)record->finished);
    else if (!ended && (record->result || record->error))
        r->status = srv_db_damage(r->err, "it is %s, and has an end", srv_status_name(record->status));
    else if (record->status == SRV_FAILED && !record->error)
        r->status = srv_db_damage(r->err, "it has failed without an error");
    else if (record->seed > (uint64_t)INT64_MAX - (uint64_t)record->num_images + 1)
        r->status = srv_db_damage(r->err, "its seeds, from %lld on, would pass the largest", (long long)record->seed);
    else if (record->progress.step > record->num_steps)
        r->status = srv_db_damage(r->err, "%d of its %d steps are done", record->progress.step, record->num_steps);
}

static void read_job(struct row *r, struct srv_job_record *out)
{
    const struct srv_job_type *kind;
    struct srv_extent e = {0};

    copy_text(r, 1, "id", out->id, sizeof(out->id));
    check_digits(r, "id", out->id, SRV_ID_SIZE - 1);
    copy_text(r, 3, "owner", out->owner, sizeof(out->owner));
    copy_text(r, 2, "kind", out->kind, sizeof(out->kind));
    kind = check_kind(r, out->kind);
    out->status = (enum srv_status)read_int(r, 4, "status", 0, SRV_STATUS_COUNT - 1);
    out->created = read_int(r, 5, "created", 0, SRV_DB_LAST_MS);
    out->started = read_int(r, 6, "started", 0, SRV_DB_LAST_MS);
    out->finished = read_int(r, 7, "finished", 0, SRV_DB_LAST_MS);
    copy_text(r, 12, "bank_sha256", out->bank_sha256, sizeof(out->bank_sha256));
    if (*out->bank_sha256) /* "" of a job that had been damaged */
        check_digits(r, "bank_sha256", out->bank_sha256, 64);
    out->outputs = read_extent(r, 13, kind, &e);
    out->shape = e.shape;
    out->num_images = e.num_images;
    out->num_steps = e.num_steps;
    out->depth = e.depth;
    out->seed = (uint64_t)read_int(r, 20, "seed", 0, INT64_MAX);
    out->last_event = (uint64_t)read_int(r, 21, "last_event", 0, INT64_MAX);
    out->progress = (struct srv_progress){.step = (int)read_int(r, 22, "steps_done", 0, ELS_MAX_INFERENCE_STEPS),
                                          .steps = out->num_steps, .eta_seconds = -1};
    dup_json(r, 8, "params", &out->params);
    if (r->status == 0 && !out->params)
        r->status = srv_db_damage(r->err, "params is missing");
    dup_json(r, 9, "result", &out->result);
    dup_json(r, 10, "error", &out->error);
    dup_json(r, 11, "engine", &out->engine);
    check_life(r, out);
}

int srv_db_record(sqlite3_stmt *s, struct srv_job_record *out, struct els_error *err)
{
    struct srv_job_record known = {.sequence = sqlite3_column_int64(s, 0)};
    struct els_error ours = {0};
    struct row r = {s, err ? err : &ours, 0};

    *out = known;
    read_job(&r, out);
    if (r.status == 0)
        return 0;
    memcpy(known.id, out->id, sizeof(known.id));
    memcpy(known.owner, out->owner, sizeof(known.owner));
    srv_job_record_deinit(out);
    *out = known;
    return r.status;
}
