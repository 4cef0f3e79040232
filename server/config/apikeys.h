/*
 * apikeys: who may use the daemon. A key is a long random text that its owner keeps; the daemon
 * keeps a file of names and of the keys' SHA-256, so the file gives nobody access.
 *
 *     # els key add FILE NAME wrote this. NAME, the SHA-256 of the key, and its rights, if any.
 *     alice 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 *     admin 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 banks
 *
 *     struct srv_apikeys *keys = NULL;
 *     if (srv_apikeys_open(&keys, "/etc/elsd/keys", &err) < 0)    // also when others may read it
 *         …
 *     struct srv_apikey key;
 *     if (srv_apikeys_find(keys, token, &key))                    // any thread
 *         …                                                       // key.name: "alice"
 *     if (srv_apikeys_rights(keys, key.name) & SRV_RIGHT_BANKS)
 *         …
 *     srv_apikeys_reload(keys, path, &err);                       // on failure the old ones stay
 *     keys = srv_apikeys_free(keys);
 *
 * els links this file too, for `els key`. 256 random bits need no slow hash.
 */
#ifndef SRV_APIKEYS_H
#define SRV_APIKEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "els/error.h"

enum {
    SRV_APIKEY_NAME = 64,     /* with its NUL; letters, digits, '.', '_', '-' */
    SRV_APIKEY_TEXT = 4 + 65, /* "els_", 64 hex digits, a NUL */
    SRV_APIKEYS_MOST = 1000,
    SRV_APIKEY_SHA256 = 65, /* in hex, with its NUL */
};

/* A key that was shown and found. */
struct srv_apikey {
    char name[SRV_APIKEY_NAME];
    char sha256[SRV_APIKEY_SHA256];
    unsigned generation; /* of the file, when it was last looked for */
};

/* What a key may do beyond making jobs. In the file, words separated by commas. */
enum srv_right {
    SRV_RIGHT_BANKS = 1, /* "banks": load and unload banks */
};

enum { SRV_RIGHTS_TEXT = 64 };

struct srv_apikeys;

/* The file's keys. ELS_EIO: not readable, not a plain file, or open to others than its owner;
 * ELS_EFORMAT: a line that is no key, or names a right that there is not (the sentence says which line). */
int srv_apikeys_open(struct srv_apikeys **out, const char *path, struct els_error *err);
/* NULL is fine. Returns NULL. */
struct srv_apikeys *srv_apikeys_free(struct srv_apikeys *keys);
/* Reads the file again; all of it counts from now on, or none. */
int srv_apikeys_reload(struct srv_apikeys *keys, const char *path, struct els_error *err);
size_t srv_apikeys_count(struct srv_apikeys *keys);
/* Is `token` a key? Then *out is filled. Takes as long for a wrong token as for a right one. */
bool srv_apikeys_find(struct srv_apikeys *keys, const char *token, struct srv_apikey *out);
/* Is it still one? Costs nothing unless the file has been read again since. */
bool srv_apikeys_holds(struct srv_apikeys *keys, struct srv_apikey *key);

/* The rights that the key of that name has now, as bits of enum srv_right; 0 when there is none of that name. */
unsigned srv_apikeys_rights(struct srv_apikeys *keys, const char *name);
/* "banks,…" ⇄ bits. False: a word is no right; `wrong` is it, cut to fit. "" is 0. */
bool srv_rights_parse(const char *text, unsigned *rights, char wrong[SRV_RIGHTS_TEXT]);
const char *srv_rights_text(unsigned rights, char out[SRV_RIGHTS_TEXT]);

/* ---- els key: the file is replaced whole, with mode 0600 ---- */

/* Makes a key, appends it to the file (made if absent), and gives its text: the only time it is
 * told. ELS_EINVAL: not a name, or in use. */
int srv_apikeys_add(const char *path, const char *name, unsigned rights, char key[SRV_APIKEY_TEXT],
                    struct els_error *err);
/* ELS_ENOENT: there is no key of that name. */
int srv_apikeys_remove(const char *path, const char *name, struct els_error *err);
/* The i-th name, or NULL past the end. Not while another thread reloads. */
const char *srv_apikeys_name(const struct srv_apikeys *keys, size_t i);

#endif
