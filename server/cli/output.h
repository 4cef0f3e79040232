/*
 * output: a result file that appears whole or not at all.
 *
 *     struct cli_output out = CLI_OUTPUT_INIT;
 *     if (cli_output_open(&out, "images.npy", &err) < 0)       // fails now, not after the work
 *         …
 *     cli_output_write(&out, header, 128, &err);               // in order,
 *     cli_output_write_at(&out, offset, data, size, &err);     // or anywhere
 *     cli_output_commit(&out, &err);                           // images.npy is there
 *     cli_output_deinit(&out);                                 // without a commit: nothing is
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "els/error.h"
#include "els/mem.h"

struct cli_output {
    const char *path;         /* borrowed */
    char temporary[PATH_MAX]; /* beside `path`; "" when there is none */
    int fd;
    uint64_t end; /* where cli_output_write goes on */
};

#define CLI_OUTPUT_INIT ((struct cli_output){.fd = -1})

int cli_output_open(struct cli_output *out, const char *path, struct els_error *err);
int cli_output_write(struct cli_output *out, const void *data, size_t size, struct els_error *err);
int cli_output_write_at(struct cli_output *out, uint64_t offset, const void *data, size_t size,
                        struct els_error *err);
/* Syncs and renames. */
int cli_output_commit(struct cli_output *out, struct els_error *err);
/* Closes; removes the temporary file when there was no commit. */
void cli_output_deinit(struct cli_output *out);

/* ELS_EINVAL unless the path ends in `ending` (".json"). */
int cli_check_ending(const char *path, const char *ending, struct els_error *err);

/* All bytes of a regular file, at most `max`. */
int cli_read_file(struct els_buffer *out, const char *path, struct els_error *err);

#endif
