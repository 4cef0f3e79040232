/*
 * The strict reader of requests: one state machine per connection, fed by wire_socket.c on the
 * connection's HTTP thread. Pure: no sockets, no locks, no clock.
 *
 * What always holds: a byte of a head comes out only when the whole head has been checked, and a
 * chunk's size only when its whole line has. So whoever reads the output sees no part of a request
 * that is refused, except the part of a body before a fault in its chunks.
 *
 * A refused request must still be answered, after the answers to those before it. So something comes
 * out in its place that makes libmicrohttpd ask us: in place of a head, a request with the method
 * SRV_WIRE_REFUSED; in the middle of a chunked body, one more byte of body. connection.c then
 * answers with srv_wire_refusal's verdict on the socket, and closes (socket_monitor.c).
 */
#include "server/http/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "els/error.h"

static const char stand_in[] = SRV_WIRE_REFUSED " * HTTP/1.1\r\nHost:x\r\nContent-Length:1\r\n\r\n";
_Static_assert(sizeof(stand_in) <= sizeof((struct srv_wire){0}.small),
               "the stand-in has its place");

void srv_wire_deinit(struct srv_wire *wire)
{
    els_buffer_deinit(&wire->head);
}

/* ---- what comes out ---- */

static void give_small(struct srv_wire *wire, const char *text)
{
    wire->to_give = (size_t)snprintf(wire->small, sizeof(wire->small), "%s", text);
    wire->given = 0;
    wire->gives_head = false;
}

static void give_head(struct srv_wire *wire, size_t size)
{
    wire->to_give = size;
    wire->given = 0;
    wire->gives_head = true;
}

static size_t give(struct srv_wire *wire, uint8_t *out, size_t size)
{
    const void *from = wire->gives_head ? (const void *)wire->head.data : wire->small;
    size_t n = wire->to_give - wire->given;

    if (n > size)
        n = size;
    if (!n)
        return 0;
    memcpy(out, (const uint8_t *)from + wire->given, n);
    wire->given += n;
    if (wire->given == wire->to_give) {
        wire->given = wire->to_give = 0;
        if (wire->gives_head)
            els_buffer_deinit(&wire->head);
    }
    return n;
}

/* ---- refusing ---- */

static void die(struct srv_wire *wire)
{
    switch (wire->state) {
    case SRV_WIRE_IN_HEAD:
        els_buffer_deinit(&wire->head);
        wire->requests++;
        give_small(wire, stand_in);
        break;
    case SRV_WIRE_AFTER_CHUNK:
        give_small(wire, "\r\n1\r\n!");
        break;
    default:
        give_small(wire, "1\r\n!");
        break;
    }
    wire->refused = wire->requests;
    wire->state = SRV_WIRE_DEAD;
}

__attribute__((format(printf, 4, 5))) static void refuse(struct srv_wire *wire, int status,
                                                         const char *code, const char *format, ...)
{
    va_list ap;

    wire->why.status = status;
    wire->why.code = code;
    va_start(ap, format);
    vsnprintf(wire->why.detail, sizeof(wire->why.detail), format, ap);
    va_end(ap);
    die(wire);
}

#define malformed(wire, ...) refuse(wire, 400, "bad_framing", __VA_ARGS__)

const struct srv_verdict *srv_wire_refusal(const struct srv_wire *wire, uint64_t ordinal)
{
    return wire->refused && wire->refused == ordinal ? &wire->why : NULL;
}

/* ---- the head ---- */

/* "GET /path HTTP/1.1" */
static bool check_request_line(struct srv_wire *wire, const char *line, size_t n)
{
    const char *end = line + n, *target, *version;
    size_t arguments = 1;

    target = memchr(line, ' ', n);
    version = target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;
    if (!version || !srv_request_is_token(line, (size_t)(target - line)) || version == target + 1 ||
        memchr(line, '\t', n)) {
        malformed(wire, "The first line is not \"METHOD target HTTP/1.1\".");
        return false;
    }
    version++;
    if (end - version != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.' ||
        version[5] < '0' || version[5] > '9' || version[7] < '0' || version[7] > '9') {
        malformed(wire, "The first line does not end with HTTP/1.1.");
        return false;
    }
    if (version[5] != '1' || version[7] > '1') {
        refuse(wire, 505, "version_not_supported",
               "This daemon speaks HTTP/1.1 and HTTP/1.0, not %.8s.", version);
        return false;
    }
    for (const char *c = target; c < version; c++)
        arguments += *c == '&';
    if (arguments > SRV_WIRE_ARGUMENTS) {
        refuse(wire, 431, "too_many_arguments", "The query has %zu arguments; at most %d are read.",
               arguments, SRV_WIRE_ARGUMENTS);
        return false;
    }
    return true;
}

static bool check_field(struct srv_wire *wire, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);

    if (++wire->fields > SRV_WIRE_FIELDS) {
        refuse(wire, 431, "too_many_headers", "The request has more than %d header lines.",
               SRV_WIRE_FIELDS);
        return false;
    }
    if (!colon || !srv_request_is_token(line, (size_t)(colon - line))) {
        malformed(wire, colon == line ? "A header has no name."
                        : colon       ? "A header name is not a token."
                                      : "A header line has no colon.");
        return false;
    }
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Writes a field in its canonical form to `to`, which may be where it is. Returns its end. Its name
 * and its value are looked at on the way. */
static char *write_field(struct srv_request_checks *checks, char *to, char *line, size_t n)
{
    char *colon = memchr(line, ':', n), *value = colon + 1, *end = line + n;
    size_t name_size = (size_t)(colon - line), value_size;

    while (value < end && is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    value_size = (size_t)(end - value);
    if (name_size == 6 && strncasecmp(line, "Cookie", 6) == 0)
        return to;
    memmove(to, line, name_size);
    memmove(to + name_size + 1, value, value_size);
    to[name_size] = to[name_size + 1 + value_size] =
        '\0'; /* a CR, or what follows a shorter line */
    srv_request_check_field(checks, to, to + name_size + 1);
    to[name_size] = ':';
    to += name_size + 1 + value_size;
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

/* n digits. */
static bool read_length(struct srv_wire *wire, const char *text, size_t n)
{
    uint64_t length = 0;

    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, (uint64_t)(text[i] - '0'), &length)) {
            refuse(wire, 413, "body_too_large", "Content-Length is a number beyond all limits.");
            return false;
        }
    wire->left = length;
    return true;
}

/* The head is whole and each of its lines well formed: where does the body end? */
static void end_head(struct srv_wire *wire)
{
    char *head = (char *)wire->head.data, *end = head + wire->head.size, *line, *to, *query;
    struct srv_request_checks checks = {0};
    const char *length = NULL;
    size_t length_size = 0;
    char version[9] = "";

    line = (char *)memchr(head, '\n', wire->head.size) + 1;
    memcpy(version, line - 10, 8);
    query = memchr(head, '?', (size_t)(line - head));
    if (query)
        *query = SRV_WIRE_QUERY;
    for (to = line; *line != '\r';) {
        char *next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        char *field = to;

        to = write_field(&checks, to, line, (size_t)(next - 2 - line));
        if (to > field && strncasecmp(field, "Content-Length:", 15) == 0) {
            length = field + 15;
            length_size = (size_t)(to - 2 - length);
        }
        line = next;
    }
    *to++ = '\r';
    *to++ = '\n';
    if (!srv_request_check_length(&checks, version, &wire->why)) {
        die(wire);
        return;
    }
    if (!read_length(wire, length, length_size))
        return;
    wire->requests++;
    wire->fields = wire->length = wire->digits = 0;
    wire->state = checks.codings ? SRV_WIRE_IN_CHUNK_LINE
                  : wire->left    ? SRV_WIRE_IN_BODY
                                  : SRV_WIRE_IN_HEAD;
    give_head(wire, (size_t)(to - head));
}

/* A line of the head has come, its CRLF included. */
static void end_line(struct srv_wire *wire)
{
    const char *line = (const char *)wire->head.data + wire->line;
    size_t n = wire->head.size - wire->line - 2;
    bool first = wire->line == 0;

    wire->line = wire->head.size;
    if (first && n == 0) { /* empty lines before a request are passed over */
        wire->head.size = wire->line = 0;
        if (++wire->fields > SRV_WIRE_FIELDS)
            malformed(wire, "More than %d empty lines come before the request.", SRV_WIRE_FIELDS);
    } else if (n == 0) {
        wire->line = 0;
        end_head(wire);
    } else if (first) {
        wire->fields = 0;
        check_request_line(wire, line, n);
    } else {
        check_field(wire, line, n);
    }
}

/* Is the byte one that a line may hold? The line's end is checked apart. */
static bool is_text(uint8_t c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static void read_head_byte(struct srv_wire *wire, uint8_t c)
{
    bool was_cr = wire->after_cr;
    int status;

    wire->after_cr = c == '\r';
    if (was_cr != (c == '\n')) {
        malformed(wire, was_cr ? "A line of the head has a CR without LF."
                               : "A line of the head ends with LF alone.");
        return;
    }
    if (c != '\r' && c != '\n' && !is_text(c)) {
        malformed(wire, "The head has a byte of value %u.", c);
        return;
    }
    if (wire->line && wire->head.size == wire->line && is_blank((char)c)) {
        malformed(wire, "A header line is folded: it begins with a space.");
        return;
    }
    wire->head.maximum = SRV_WIRE_HEAD;
    status = els_buffer_append(&wire->head, &c, 1);
    if (status == ELS_ENOMEM)
        refuse(wire, 503, "out_of_memory", "Out of memory.");
    else if (status < 0)
        refuse(wire, 431, "head_too_large", "The head of the request is larger than %d bytes.",
               SRV_WIRE_HEAD);
    else if (c == '\n')
        end_line(wire);
}

bool srv_wire_has_begun(const struct srv_wire *wire)
{
    return wire->state == SRV_WIRE_IN_HEAD && wire->line > 0;
}

/* ---- chunks ---- */

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void end_chunk_line(struct srv_wire *wire)
{
    char line[32];

    if (!wire->digits) {
        malformed(wire, "A chunk has no size.");
        return;
    }
    wire->in_extension = false;
    wire->length = wire->digits = 0;
    if (wire->left == 0) {
        wire->state = SRV_WIRE_IN_TRAILERS;
        return;
    }
    snprintf(line, sizeof(line), "%llx\r\n", (unsigned long long)wire->left);
    give_small(wire, line);
    wire->state = SRV_WIRE_IN_CHUNK;
}

/* "1f4;name=value CR LF": the size, and an extension that nobody reads. */
static void read_chunk_byte(struct srv_wire *wire, uint8_t c)
{
    bool was_cr = wire->after_cr;
    int digit = hex_digit(c);

    if (wire->length == 0)
        wire->left = 0;
    wire->after_cr = c == '\r';
    if (was_cr != (c == '\n'))
        malformed(wire, was_cr ? "The line of a chunk has a CR without LF."
                               : "The line of a chunk ends with LF alone.");
    else if (c == '\n')
        end_chunk_line(wire);
    else if (++wire->length > SRV_WIRE_CHUNK_LINE)
        malformed(wire, "The line of a chunk is longer than %d bytes.", SRV_WIRE_CHUNK_LINE);
    else if (c == '\r')
        return;
    else if (wire->in_extension && is_text(c))
        return;
    else if (!wire->in_extension && digit >= 0 && wire->left >> 60 == 0 && ++wire->digits <= 16)
        wire->left = wire->left << 4 | (unsigned)digit;
    else if (!wire->in_extension && c == ';' && wire->digits)
        wire->in_extension = true;
    else
        malformed(wire, "The size of a chunk is not a hexadecimal number of at most 16 digits.");
}

static void read_after_chunk(struct srv_wire *wire, uint8_t c)
{
    bool was_cr = wire->after_cr;

    wire->after_cr = c == '\r';
    if (c != (was_cr ? '\n' : '\r')) {
        malformed(wire, "A chunk is not followed by CR LF.");
    } else if (was_cr) {
        give_small(wire, "\r\n");
        wire->state = SRV_WIRE_IN_CHUNK_LINE;
    }
}

/* After the last chunk: lines up to an empty one. They are checked and left out. `length` counts
 * their bytes, `digits` those of the current line. */
static void read_trailer_byte(struct srv_wire *wire, uint8_t c)
{
    bool was_cr = wire->after_cr;

    wire->after_cr = c == '\r';
    if (was_cr != (c == '\n') || (c != '\r' && c != '\n' && !is_text(c)) ||
        (wire->digits == 0 && is_blank((char)c)) || (wire->digits == 0 && c == ':')) {
        malformed(wire, "A line after the last chunk is not well formed.");
    } else if (++wire->length > SRV_WIRE_TRAILERS) {
        refuse(wire, 431, "head_too_large", "What follows the last chunk is larger than %d bytes.",
               SRV_WIRE_TRAILERS);
    } else if (c == '\n' && wire->digits == 0) {
        wire->length = 0;
        wire->state = SRV_WIRE_IN_HEAD;
        give_small(wire, "0\r\n\r\n");
    } else if (c == '\n') {
        wire->digits = 0;
    } else if (c != '\r') {
        wire->digits++;
    }
}

/* ---- all ---- */

uint64_t srv_wire_direct(const struct srv_wire *wire)
{
    bool in_body = wire->state == SRV_WIRE_IN_BODY || wire->state == SRV_WIRE_IN_CHUNK;

    return in_body && !wire->to_give ? wire->left : 0;
}

void srv_wire_passed(struct srv_wire *wire, size_t n)
{
    wire->left -= n;
    if (wire->left == 0)
        wire->state = wire->state == SRV_WIRE_IN_CHUNK ? SRV_WIRE_AFTER_CHUNK : SRV_WIRE_IN_HEAD;
}

static void read_byte(struct srv_wire *wire, uint8_t c)
{
    switch (wire->state) {
    case SRV_WIRE_IN_HEAD:
        read_head_byte(wire, c);
        break;
    case SRV_WIRE_IN_CHUNK_LINE:
        read_chunk_byte(wire, c);
        break;
    case SRV_WIRE_AFTER_CHUNK:
        read_after_chunk(wire, c);
        break;
    case SRV_WIRE_IN_TRAILERS:
        read_trailer_byte(wire, c);
        break;
    case SRV_WIRE_IN_BODY:
    case SRV_WIRE_IN_CHUNK:
    case SRV_WIRE_DEAD:
        break;
    }
}

size_t srv_wire_feed(struct srv_wire *wire, const void *in, size_t n, size_t *used, void *out,
                     size_t size)
{
    const uint8_t *from = in;
    uint8_t *to = out;
    size_t i = 0, made = give(wire, to, size);

    while (i < n && !wire->to_give) {
        uint64_t direct = srv_wire_direct(wire);

        if (direct) {
            size_t piece = n - i < size - made ? n - i : size - made;

            if (piece > direct)
                piece = (size_t)direct;
            if (!piece)
                break;
            memcpy(to + made, from + i, piece);
            srv_wire_passed(wire, piece);
            made += piece;
            i += piece;
        } else {
            read_byte(wire, from[i++]);
        }
        made += give(wire, to + made, size - made);
    }
    *used = i;
    return made;
}
