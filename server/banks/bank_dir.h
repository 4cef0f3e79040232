/*
 * bank_dir: the directory that banks may be loaded from over HTTP (the setting bank_dir), and nothing beyond it.
 *
 *     struct srv_bank_file file = {.fd = -1};
 *     int status = srv_bank_dir_open(config->bank_dir, "mnist.safetensors", &file, &err);
 *     if (status < 0)
 *         …                               // ELS_ENOENT: no such file; ELS_EINVAL: not a name, or no regular file
 *     printf("%lld bytes\n", (long long)file.size);
 *     close(file.fd);
 *
 * A name has no slash and does not begin with a dot, and a symbolic link is never followed; so no name leads out of the
 * directory. Pipes, sockets and devices are not opened. Any thread; no state.
 */
#ifndef SRV_BANK_DIR_H
#define SRV_BANK_DIR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "els/error.h"

enum { SRV_BANK_FILE_NAME = 256 }; /* with its NUL */

struct srv_bank_file {
    int fd; /* the caller closes it */
    int64_t size;
    dev_t device; /* with the next three: the same file, unchanged? */
    ino_t inode;
    int64_t modified_ns, changed_ns;
};

/* Is the directory there? ELS_EIO with a sentence. */
int srv_bank_dir_check(const char *dir, struct els_error *err);
/* Opens the file of that name for reading. ELS_ENOENT; ELS_EINVAL; ELS_EIO: the system refused. */
int srv_bank_dir_open(const char *dir, const char *name, struct srv_bank_file *out, struct els_error *err);
/* The same of a file that is open. False: fstat failed. */
bool srv_bank_file_look(int fd, struct srv_bank_file *out);
bool srv_bank_file_is_same(const struct srv_bank_file *a, const struct srv_bank_file *b);
/* Adds {"file", "bytes", "modified"} of every regular file whose name ends in .safetensors, by name, at most
 * SRV_BANK_DIR_LISTED of them, to a new array. *more: there are others. ELS_EIO, ELS_ENOMEM. */
enum { SRV_BANK_DIR_LISTED = 1000 };
int srv_bank_dir_list(const char *dir, json_t **out, bool *more, struct els_error *err);

#endif
