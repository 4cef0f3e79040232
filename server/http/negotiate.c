/*
 * Which of our media types a client would rather have. Called from handlers, in any thread; no
 * state, no allocation. The most specific range that fits an offer gives its weight (the whole
 * type, then the type with any subtype, then any type); parameters other than q are ignored,
 * because none of our types has any.
 */
#include "server/http/negotiate.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static size_t skip_space(const char *s)
{
    return strspn(s, " \t");
}

/* A weight in thousandths: 0…1000; what is not a qvalue counts as 1. */
static int parse_weight(const char *s, size_t n)
{
    int value = 0, digits = 0;

    if (n < 1 || n > 5 || (s[0] != '0' && s[0] != '1') || (n > 1 && s[1] != '.'))
        return 1000;
    value = (s[0] - '0') * 1000;
    for (size_t i = 2, unit = 100; i < n; i++, unit /= 10) {
        if (s[i] < '0' || s[i] > '9')
            return 1000;
        digits += (s[i] - '0') * (int)unit;
    }
    return value + digits > 1000 ? 1000 : value + digits;
}

struct range {
    const char *type; /* "image/png", length n */
    size_t n;
    int weight;
};

/* Takes one element apart. Returns where the next begins. */
static const char *next_range(const char *s, struct range *out)
{
    s += skip_space(s);
    out->type = s;
    out->n = strcspn(s, " \t;,");
    out->weight = 1000;
    s += out->n;
    for (;;) {
        s += skip_space(s);
        if (*s != ';')
            break;
        s++;
        s += skip_space(s);
        if ((s[0] == 'q' || s[0] == 'Q') && s[1] == '=')
            out->weight = parse_weight(s + 2, strcspn(s + 2, " \t;,"));
        s += strcspn(s, ";,");
    }
    s += strcspn(s, ",");
    return *s ? s + 1 : s;
}

/* How closely the range fits: 0 not at all, 1 by any type, 2 by type and any subtype, 3 wholly. */
static int specificity(const struct range *range, const char *offer)
{
    size_t slash = strcspn(offer, "/");

    if (range->n == 3 && memcmp(range->type, "*/*", 3) == 0)
        return 1;
    if (range->n == slash + 2 && strncasecmp(range->type, offer, slash + 1) == 0 &&
        range->type[slash + 1] == '*')
        return 2;
    if (range->n == strlen(offer) && strncasecmp(range->type, offer, range->n) == 0)
        return 3;
    return 0;
}

static int weight_of(const char *accept, const char *offer)
{
    int best = 0, weight = 0;

    while (*accept) {
        struct range range;
        int fit;

        accept = next_range(accept, &range);
        fit = specificity(&range, offer);
        if (fit > best) {
            best = fit;
            weight = range.weight;
        }
    }
    return weight;
}

const char *srv_negotiate_best(const char *accept, const char *const *offers)
{
    const char *best = NULL;
    int best_weight = 0;

    if (!accept || !accept[strspn(accept, " \t,")])
        return offers[0];
    for (; *offers; offers++) {
        int weight = weight_of(accept, *offers);

        if (weight > best_weight) {
            best = *offers;
            best_weight = weight;
        }
    }
    return best;
}
