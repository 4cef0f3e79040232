/*
 * framing: what a request's head must be before we believe where its body ends and who sent it.
 *
 *     struct srv_request_checks checks = {0};
 *     // for every header field, in order:
 *     srv_request_check_field(&checks, name, value);
 *     struct srv_verdict verdict;
 *     if (!srv_request_check(&checks, "HTTP/1.1", &policy, &verdict))
 *         refuse(verdict.status, verdict.code, verdict.detail);
 *
 * Pure; any thread. libmicrohttpd 0.9.75 parses the head but lets through what a proxy in front
 * of us could read otherwise (request smuggling), and knows nothing of Host and Origin.
 */
#ifndef SRV_REQUEST_CHECKS_H
#define SRV_REQUEST_CHECKS_H

#include <stdbool.h>
#include <stddef.h>

struct srv_request_checks {
    const char *host, *origin; /* borrowed from the fields */
    const char *bad_name;      /* a field name that is no token, or NULL */
    int hosts, origins, lengths, codings;
    bool bad_length; /* Content-Length is not a plain number */
    bool bad_coding; /* Transfer-Encoding is not "chunked" */
    bool has_body;   /* a length above 0, or any coding */
};

struct srv_policy {
    const char *allowed_hosts; /* comma-separated names, "" for none */
    const char *cors_origins;  /* comma-separated origins, "" for none */
};

struct srv_verdict {
    int status; /* 400: close the connection, its framing is not to be trusted; 403 */
    const char *code;
    char detail[256];
};

void srv_request_check_field(struct srv_request_checks *checks, const char *name, const char *value);
/* Is it clear where the request ends, and are Host and Origin there as often as they may be? The first
 * part of srv_request_check. */
bool srv_request_check_length(const struct srv_request_checks *checks, const char *version,
                              struct srv_verdict *out);
/* True when the request may go on; false, and *out says why not. */
bool srv_request_check(const struct srv_request_checks *checks, const char *version,
                       const struct srv_policy *policy, struct srv_verdict *out);
/* Are the n bytes a token (RFC 9110, 5.6.2), as the names of methods and headers are? */
bool srv_request_is_token(const char *s, size_t n);
/* Is the origin one of policy->cors_origins (so that its pages may read the answer)? */
bool srv_request_is_cors(const struct srv_policy *policy, const char *origin);

#endif
