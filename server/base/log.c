/*
 * The log: one event, one line, one write to standard error. Any thread may call it, and none ever
 * waits: a line is formatted in the caller's own bounded buffer and put into a ring (log_ring.c),
 * whose thread writes it whole, so lines never mix. A line that does not fit is cut, never split.
 * Values come from clients, so every one is escaped: a line break or a quote in a value cannot
 * forge a second line or a field.
 *
 * When the process crashes, a handler writes what the ring still holds. A handler gets no argument
 * of ours, so the log that it looks into is one of the two mutable globals of the server; the other
 * is what the handler took the place of.
 */
#include "server/base/log.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/utf8.h"
#include "els/error.h"
#include "els/mem.h"
#include "server/base/clock.h"
#include "server/base/log_ring.h"

enum {
    MAX_LINE = SRV_LOG_LINE,
    LINE_END = 4, /* room for the closing quote, brace and line break of a cut line */
    NUMBER_MARK =
        0x01, /* begins what srv_log_number made; a client's value that begins so is escaped */
};

struct srv_log {
    atomic_int level; /* of enum srv_level */
    atomic_bool json;
    struct srv_log_ring *ring;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

int srv_log_set(struct srv_log *log, const char *level, const char *format)
{
    bool json = strcmp(format, "json") == 0;
    int i = SRV_DEBUG;

    while (i <= SRV_ERROR && strcmp(level, level_names[i]) != 0)
        i++;
    if (i > SRV_ERROR || (!json && strcmp(format, "text") != 0))
        return ELS_EINVAL;
    /* relaxed: a line of another thread may still come as it was */
    atomic_store_explicit(&log->level, i, memory_order_relaxed);
    atomic_store_explicit(&log->json, json, memory_order_relaxed);
    return 0;
}

const char *srv_log_number(char out[32], double value)
{
    out[0] = NUMBER_MARK;
    if (!isfinite(value))
        snprintf(out + 1, 31, "null");
    else if (value == floor(value) && fabs(value) < 1e15)
        snprintf(out + 1, 31, "%.0f", value);
    else
        snprintf(out + 1, 31, "%.6g", value);
    return out;
}

/* ---- the line ---- */

struct line {
    char text[MAX_LINE];
    size_t size;
    bool full;
};

/* Appends n bytes or, when they do not fit, nothing now and nothing later. */
static void add(struct line *line, const char *text, size_t n)
{
    if (line->full || line->size + n > MAX_LINE - LINE_END) {
        line->full = true;
        return;
    }
    memcpy(line->text + line->size, text, n);
    line->size += n;
}

static void add_text(struct line *line, const char *text)
{
    add(line, text, strlen(text));
}

/* The inside of a quoted value, in JSON's escapes (which the text form uses too). */
static void add_escaped(struct line *line, const char *value)
{
    while (*value && !line->full) {
        uint32_t c;
        size_t n = els_utf8_decode(value, &c);
        char escape[8];

        if (n == 0) {
            add_text(line, "\\ufffd");
            n = 1;
        } else if (c == '\n') {
            add_text(line, "\\n");
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) { /* C1 too: some terminals obey them */
            snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)c);
            add_text(line, escape);
        } else if (c == '"' || c == '\\') {
            add_text(line, c == '"' ? "\\\"" : "\\\\");
        } else {
            add(line, value, n);
        }
        value += n;
    }
}

static void add_quoted(struct line *line, const char *value)
{
    add_text(line, "\"");
    if (line->full)
        return;
    add_escaped(line, value);
    line->text[line->size++] = '"'; /* LINE_END keeps room for it */
}

static const char *skip_digits(const char *s)
{
    return s + strspn(s, "0123456789");
}

/* Did srv_log_number make this? The mark alone is not believed, a client can send it too: what
 * follows must be a number as JSON spells it. */
static bool is_number(const char *value)
{
    const char *s = value + 1, *digits;

    if (value[0] != NUMBER_MARK)
        return false;
    if (strcmp(s, "null") == 0)
        return true;
    s += *s == '-';
    digits = s;
    s = skip_digits(s);
    if (s == digits || (*digits == '0' && s > digits + 1))
        return false;
    if (*s == '.') {
        digits = s + 1;
        s = skip_digits(digits);
        if (s == digits)
            return false;
    }
    if (*s == 'e') {
        s += s[1] == '+' || s[1] == '-' ? 2 : 1;
        digits = s;
        s = skip_digits(s);
        if (s == digits)
            return false;
    }
    return !*s;
}

/* May the text form show it without quotes? */
static bool is_bare(const char *value)
{
    return *value &&
           value[strspn(value, "0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-:/+,@%?&{}[]*~#;()")] == '\0';
}

static void add_value(struct line *line, const char *value, bool json)
{
    if (is_number(value))
        add_text(line, value + 1);
    else if (!json && is_bare(value))
        add_text(line, value);
    else
        add_quoted(line, value);
}

static void add_field(struct line *line, const char *key, const char *value, bool json)
{
    size_t before = line->size, named;

    add_text(line, json ? ",\"" : " ");
    add_text(line, key);
    add_text(line, json ? "\":" : "=");
    named = line->size;
    if (!line->full)
        add_value(line, value, json);
    if (line->full && line->size <= named)
        line->size = before; /* not even the beginning of the value fits: no field */
}

static void add_head(struct line *line, bool json, enum srv_level level, const char *event)
{
    char stamp[SRV_TIME_TEXT], head[192];

    snprintf(head, sizeof(head),
             json ? "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"" : "%s %s %s",
             srv_time_text(srv_now_ms(), stamp), level_names[level], event);
    add_text(line, head);
}

/* Closes the line. */
static void add_end(struct line *line, bool json)
{
    if (json)
        line->text[line->size++] = '}';
    line->text[line->size++] = '\n';
}

void srv_log(struct srv_log *log, enum srv_level level, const char *event, ...)
{
    struct line line = {.size = 0};
    const char *key, *value;
    va_list ap;
    bool json;

    if (!log || (int)level < atomic_load_explicit(&log->level, memory_order_relaxed))
        return;
    json = atomic_load_explicit(&log->json, memory_order_relaxed);
    add_head(&line, json, level, event);
    va_start(ap, event);
    while ((key = va_arg(ap, const char *))) {
        value = va_arg(ap, const char *);
        if (value)
            add_field(&line, key, value, json);
    }
    va_end(ap);
    add_end(&line, json);
    srv_log_ring_put(log->ring, line.text, line.size);
}

/* ---- life ---- */

/* For the ring: whatever the level is, who reads the log is told that some of it is missing. */
static size_t say_dropped(void *user, uint64_t count, char out[SRV_LOG_LINE])
{
    struct srv_log *log = user;
    bool json = atomic_load_explicit(&log->json, memory_order_relaxed);
    struct line line = {.size = 0};
    char number[32];

    add_head(&line, json, SRV_WARNING, "log_lines_dropped");
    add_field(&line, "count", srv_log_number(number, (double)count), json);
    add_end(&line, json);
    memcpy(out, line.text, line.size);
    return line.size;
}

int srv_log_new(struct srv_log **out, const char *level, const char *format)
{
    struct srv_log *log = els_alloc_array(1, sizeof(*log));
    int status = log ? srv_log_set(log, level, format) : ELS_ENOMEM;

    if (status == 0)
        status = srv_log_ring_new(&log->ring, STDERR_FILENO, say_dropped, log);
    if (status < 0) {
        free(log);
        return status;
    }
    *out = log;
    return 0;
}

bool srv_log_flush(struct srv_log *log, int timeout_ms)
{
    return srv_log_ring_flush(log->ring, timeout_ms);
}

uint64_t srv_log_dropped(const struct srv_log *log)
{
    return log ? srv_log_ring_dropped(log->ring) : 0;
}

/* ---- crashes ---- */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

enum { FATAL = sizeof(fatal) / sizeof(*fatal) };

static _Atomic(struct srv_log *) rescued;
static struct sigaction before[FATAL];

/* Then whatever would have happened happens: a core dump, a sanitizer's report. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    struct srv_log *log = atomic_exchange(&rescued, NULL);

    (void)context;
    if (log)
        srv_log_ring_rescue(log->ring);
    for (size_t i = 0; i < FATAL; i++)
        if (fatal[i] == number)
            sigaction(number, &before[i], NULL);
    /* An instruction that failed fails again; what was sent must be sent again. */
    if (info->si_code <= 0)
        raise(number);
}

void srv_log_rescue_on_crash(struct srv_log *log)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    atomic_store(&rescued, log);
    for (size_t i = 0; i < FATAL; i++)
        sigaction(fatal[i], &action, &before[i]);
}

struct srv_log *srv_log_free(struct srv_log *log)
{
    struct srv_log *mine = log;

    if (!log)
        return NULL;
    atomic_compare_exchange_strong(&rescued, &mine, NULL);
    log->ring = srv_log_ring_free(log->ring);
    free(log);
    return NULL;
}
