/*
 * error: the status codes of libels and the one sentence a person reads.
 *
 *     struct els_error err = {0};
 *     struct els_bank *bank = NULL;
 *     if (els_bank_open(&bank, "mnist.safetensors", &err) < 0)
 *         fprintf(stderr, "els: %s\n", err.message);
 *
 * Every function that can fail returns 0 or one of the negative codes below.
 * Functions that a person's input reaches also take a `struct els_error *`
 * (NULL is allowed), and fill it with the offending field and one sentence
 * that holds the offending value and the allowed range.
 */
#ifndef ELS_ERROR_H
#define ELS_ERROR_H

#include "els/api.h"

ELS_BEGIN_DECLS

enum els_status {
    ELS_OK = 0,
    ELS_EINVAL = -1,     /* a value out of its range */
    ELS_ENOMEM = -2,     /* an allocation failed */
    ELS_EIO = -3,        /* the operating system refused to read or write */
    ELS_EFORMAT = -4,    /* a file or buffer is not what it claims to be */
    ELS_ELIMIT = -5,     /* well formed, but larger than we accept */
    ELS_ECANCELLED = -6, /* the caller's progress asked to stop */
    ELS_ENOENT = -7,     /* nothing of that name */
};

struct els_error {
    int code;          /* one of enum els_status */
    char field[64];    /* the offending parameter, for example "scales"; may be empty */
    char message[448]; /* one sentence, without a final newline */
};

/*
 * Fills *err (unless NULL) and returns `code`, so that a failing function
 * can end with `return els_fail(err, ELS_EINVAL, "label", "label %d is …", n);`.
 * `field` may be NULL.
 */
ELS_API int els_fail(struct els_error *err, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The code's plain meaning, for example "a value is out of its range". */
ELS_API const char *els_status_text(int code);

ELS_END_DECLS

#endif
