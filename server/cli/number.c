/*
 * Strict numbers: the whole text is the number, or it is refused. No white space, no hexadecimal,
 * no inf or nan. Called while the command line is read, before any thread is started.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/cli/options.h"

int cli_integer(const char *text, int64_t *out)
{
    const char *digits = *text == '-' ? text + 1 : text;
    long long value;

    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return -1;
    errno = 0;
    value = strtoll(text, NULL, 10);
    if (errno)
        return -1;
    *out = value;
    return 0;
}

int cli_real(const char *text, double *out)
{
    char *end;
    double value;

    if (*text == '\0' || strspn(text, "+-.0123456789eE") != strlen(text))
        return -1;
    value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value))
        return -1;
    *out = value;
    return 0;
}
