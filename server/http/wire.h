/*
 * wire: a strict reader of HTTP/1 requests. It stands between a socket and libmicrohttpd: raw bytes
 * go in, and what comes out is the same requests in one canonical form. A request that is not well
 * formed never comes out; see srv_wire_refusal.
 *
 *     struct srv_wire wire = {0};
 *     size_t used, made = srv_wire_feed(&wire, in, n, &used, out, sizeof(out));
 *     // in[used…] is offered again later: `out` is full.
 *     …
 *     const struct srv_verdict *why = srv_wire_refusal(&wire, ordinal);   // of the 1st, 2nd, … request
 *     srv_wire_deinit(&wire);
 *
 * The canonical form: lines end with CRLF, "Name:value" without spaces around the value, chunks
 * without extensions, no trailers, no Cookie headers (nothing here reads them). The first '?' of the
 * target becomes SRV_WIRE_QUERY: request.c reads the query, and libmicrohttpd spends no memory on
 * arguments. So libmicrohttpd 0.9.75, which overlooks folded lines, NUL, bare LF and much else, has
 * nothing to overlook, and a head within the limits fits into its memory.
 *
 * Refused: 400 "bad_framing" what is not well formed; 431 what is too large (head_too_large,
 * too_many_headers, too_many_arguments); 413 a length that no number holds; 505 another version.
 *
 * A wire holds at most one head. Not thread-safe: it belongs to its connection's HTTP thread.
 */
#ifndef SRV_WIRE_H
#define SRV_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "els/mem.h"
#include "server/http/request_checks.h"

enum {
    SRV_WIRE_HEAD = 16 << 10, /* bytes of a head */
    SRV_WIRE_FIELDS = 100,    /* header lines */
    SRV_WIRE_ARGUMENTS = 512, /* of a query */
    SRV_WIRE_CHUNK_LINE = 256,
    SRV_WIRE_TRAILERS = 4096, /* bytes */
};

/* Stands for the '?' before a query. No client can send it: it is a control character. */
#define SRV_WIRE_QUERY '\x01'

/* The method of the request that stands for a refused one: no client can send it, because it is no
 * token. Its body never ends, so that libmicrohttpd goes on reading while the answer is delivered. */
#define SRV_WIRE_REFUSED "<refused>"

enum srv_wire_state {
    SRV_WIRE_IN_HEAD,
    SRV_WIRE_IN_BODY,
    SRV_WIRE_IN_CHUNK_LINE,
    SRV_WIRE_IN_CHUNK,
    SRV_WIRE_AFTER_CHUNK,
    SRV_WIRE_IN_TRAILERS,
    SRV_WIRE_DEAD, /* refused: what still comes is dropped */
};

struct srv_wire {
    enum srv_wire_state state;
    struct els_buffer head; /* being gathered, then being given out */
    size_t line;            /* where the last line of the head begins */
    size_t fields;
    bool after_cr;
    bool in_extension;      /* of a chunk line */
    char small[64];         /* given out before anything else */
    size_t given, to_give;  /* of `head`, or of `small` */
    bool gives_head;
    uint64_t left;          /* bytes of the body or of the chunk */
    size_t length;          /* of the chunk line or the trailers so far */
    size_t digits;
    uint64_t requests;      /* heads that came out, a refused one included */
    uint64_t refused;       /* the ordinal of the refused request; 0: none */
    struct srv_verdict why;
};

void srv_wire_deinit(struct srv_wire *wire);
/* Reads up to n bytes and writes up to `size`. *used is how many were read: all of them, unless
 * `out` is full. n 0: only gives out what is due. */
size_t srv_wire_feed(struct srv_wire *wire, const void *in, size_t n, size_t *used, void *out,
                     size_t size);
/* So many bytes from the socket may go straight to the reader, past srv_wire_feed; 0: none. */
uint64_t srv_wire_direct(const struct srv_wire *wire);
/* They have. */
void srv_wire_passed(struct srv_wire *wire, size_t n);
/* Is a request's head under way (its request line is there, its end is not)? */
bool srv_wire_has_begun(const struct srv_wire *wire);
/* Why the request of that ordinal is refused, or NULL. */
const struct srv_verdict *srv_wire_refusal(const struct srv_wire *wire, uint64_t ordinal);

#endif
