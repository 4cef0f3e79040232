/*
 * The checks of a request's head. Called on an HTTP thread as soon as the head is there, before any
 * byte of the body is kept.
 *
 * Why the Host check: a page on the internet can give its own name our address (DNS rebinding) and
 * then talk to a daemon on loopback as if it were same-origin. Its requests carry its own name in
 * Host. An IP address or localhost in Host cannot have come from such a name, so these always pass.
 * The Origin check stops other sites' pages from posting jobs blindly.
 */
#include "server/http/request_checks.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { MAX_HOST = 255 };

bool srv_request_is_token(const char *s, size_t n)
{
    static const char symbols[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (size_t i = 0; i < n; i++)
        if (!memchr(symbols, s[i], sizeof(symbols) - 1))
            return false;
    return n > 0;
}

void srv_request_check_field(struct srv_request_checks *checks, const char *name, const char *value)
{
    if (!srv_request_is_token(name, strlen(name)) && !checks->bad_name)
        checks->bad_name = name;
    if (strcasecmp(name, "Content-Length") == 0) {
        checks->lengths++;
        checks->bad_length = checks->bad_length || !*value || value[strspn(value, "0123456789")];
        checks->has_body = checks->has_body || value[strspn(value, "0")];
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        checks->codings++;
        checks->bad_coding = checks->bad_coding || strcasecmp(value, "chunked") != 0;
        checks->has_body = true;
    } else if (strcasecmp(name, "Host") == 0) {
        checks->hosts++;
        checks->host = value;
    } else if (strcasecmp(name, "Origin") == 0) {
        checks->origins++;
        checks->origin = value;
    }
}

/* Is `word` (n bytes, any case) an element of a comma-separated list? */
static bool in_list(const char *list, const char *word, size_t n)
{
    while (*list) {
        size_t length;

        list += strspn(list, ", \t");
        length = strcspn(list, ", \t");
        if (length && length == n && strncasecmp(list, word, n) == 0)
            return true;
        list += length;
    }
    return false;
}

/* Splits "name[:port]" or "[v6][:port]". False when it is neither. */
static bool split_host(const char *host, char *name, size_t size)
{
    bool bracket = *host == '[';
    size_t n = bracket ? strcspn(++host, "]") : strcspn(host, ":");
    const char *rest = host + n;

    if (n == 0 || n >= size || (bracket && *rest++ != ']'))
        return false;
    if (*rest == ':')
        rest += 1 + strspn(rest + 1, "0123456789");
    memcpy(name, host, n);
    name[n] = '\0';
    if (!bracket && n > 1 && name[n - 1] == '.')
        name[n - 1] = '\0';
    return !*rest;
}

static bool is_own_host(const struct srv_policy *policy, const char *name)
{
    static const char local[] = ".localhost";
    unsigned char address[sizeof(struct in6_addr)];
    size_t n = strlen(name);

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1 ||
           strcasecmp(name, local + 1) == 0 ||
           (n > sizeof(local) - 1 && strcasecmp(name + n - (sizeof(local) - 1), local) == 0) ||
           in_list(policy->allowed_hosts, name, n);
}

bool srv_request_is_cors(const struct srv_policy *policy, const char *origin)
{
    return origin && in_list(policy->cors_origins, origin, strlen(origin));
}

/* Is it our own page, as the Host header names us? */
static bool is_own_origin(const char *origin, const char *host)
{
    const char *authority = strncasecmp(origin, "http://", 7) == 0    ? origin + 7
                            : strncasecmp(origin, "https://", 8) == 0 ? origin + 8
                                                                      : NULL;

    return authority && host && strcasecmp(authority, host) == 0;
}

__attribute__((format(printf, 4, 5))) static bool refuse(struct srv_verdict *out, int status,
                                                         const char *code, const char *format, ...)
{
    va_list ap;

    out->status = status;
    out->code = code;
    va_start(ap, format);
    vsnprintf(out->detail, sizeof(out->detail), format, ap);
    va_end(ap);
    return false;
}

bool srv_request_check_length(const struct srv_request_checks *f, const char *version,
                              struct srv_verdict *out)
{
    static const char code[] = "bad_framing";

    if (f->bad_name)
        return refuse(out, 400, code, "A header name is not a token.");
    if (f->lengths && f->codings)
        return refuse(out, 400, code, "The request has both Content-Length and Transfer-Encoding.");
    if (f->lengths > 1)
        return refuse(out, 400, code, "The request has %d Content-Length headers.", f->lengths);
    if (f->bad_length)
        return refuse(out, 400, code, "Content-Length is not a whole number.");
    if (f->codings > 1 || f->bad_coding)
        return refuse(out, 400, code, "The only Transfer-Encoding understood here is chunked.");
    if (f->codings && strcmp(version, "HTTP/1.1") != 0)
        return refuse(out, 400, code, "Transfer-Encoding needs HTTP/1.1.");
    if (f->hosts > 1 || f->origins > 1)
        return refuse(out, 400, code, "The request has more than one %s header.",
                      f->hosts > 1 ? "Host" : "Origin");
    if (!f->hosts && strcmp(version, "HTTP/1.1") == 0)
        return refuse(out, 400, code, "An HTTP/1.1 request needs a Host header.");
    return true;
}

bool srv_request_check(const struct srv_request_checks *f, const char *version,
                       const struct srv_policy *policy, struct srv_verdict *out)
{
    char name[MAX_HOST + 1];

    if (!srv_request_check_length(f, version, out))
        return false;
    if (f->host && !split_host(f->host, name, sizeof(name)))
        return refuse(out, 400, "bad_framing", "The Host header is not a host name and a port.");
    if (f->host && !is_own_host(policy, name))
        return refuse(out, 403, "foreign_host",
                      "This daemon does not serve the host \"%.100s\"; allowed_hosts in its "
                      "configuration lists the names it does.",
                      name);
    if (f->origin && !is_own_origin(f->origin, f->host) && !srv_request_is_cors(policy, f->origin))
        return refuse(out, 403, "foreign_origin",
                      "Pages of \"%.100s\" may not use this daemon; cors_origins in its "
                      "configuration lists those that may.",
                      f->origin);
    return true;
}
