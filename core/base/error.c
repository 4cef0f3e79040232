/*
 * Status codes and sentences. Called from any thread; holds no state.
 */
#include "els/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/utf8.h"

/*
 * A file's name may be any bytes, and a name cut by "%.60s" or by the end of the message may end within a
 * character. The sentence goes into JSON and onto terminals, so what is not UTF-8 becomes '?'.
 */
static void make_utf8(char *text)
{
    uint32_t c;
    size_t n;

    for (; *text; text += n) {
        n = els_utf8_decode(text, &c);
        if (n == 0) {
            *text = '?';
            n = 1;
        }
    }
}

int els_fail(struct els_error *err, int code, const char *field, const char *format, ...)
{
    if (err) {
        va_list ap;
        err->code = code;
        snprintf(err->field, sizeof(err->field), "%s", field ? field : "");
        va_start(ap, format);
        vsnprintf(err->message, sizeof(err->message), format, ap);
        va_end(ap);
        make_utf8(err->field);
        make_utf8(err->message);
    }
    return code;
}

const char *els_status_text(int code)
{
    switch (code) {
    case ELS_OK:
        return "success";
    case ELS_EINVAL:
        return "a value is out of its range";
    case ELS_ENOMEM:
        return "out of memory";
    case ELS_EIO:
        return "reading or writing failed";
    case ELS_EFORMAT:
        return "the data is malformed";
    case ELS_ELIMIT:
        return "the data is larger than the limit";
    case ELS_ECANCELLED:
        return "cancelled";
    case ELS_ENOENT:
        return "nothing of that name exists";
    default:
        return "unknown status";
    }
}
